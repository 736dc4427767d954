//! Sockets that are bound at the start and listen when there is something to serve.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::DataPorts;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Owner and group may connect: a sidecar shares the socket's folder by its group.
const UDS_MODE: u32 = 0o660;

/// Why the server has no address.
#[derive(Debug)]
pub struct BindError {
    /// What was to be bound.
    pub address: String,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} cannot be bound: {}; choose another or end what holds it", self.address, self.error)
    }
}

impl std::error::Error for BindError {}

/// Addresses in use, with real ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Of the HTTP listener.
    pub http: Option<SocketAddr>,
    /// Of the gRPC listener.
    pub grpc: Option<SocketAddr>,
    /// Of the Unix socket.
    pub uds: Option<PathBuf>,
}

/// The bound sockets of a server.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    tcp: Vec<Socket>,
    unix: Option<Socket>,
    /// Removes the file of the Unix socket when the server is gone.
    pub file: Option<SocketFile>,
}

/// Sockets that listen, for the shard that accepts.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub tcp: Vec<std::net::TcpListener>,
    pub unix: Option<std::os::unix::net::UnixListener>,
}

impl Listeners {
    /// Binds everything that is asked for.
    pub(crate) fn bind(ports: &DataPorts) -> Result<(Self, Addresses), BindError> {
        let mut listeners = Self::default();
        let mut addresses = Addresses::default();
        for (port, address) in [(ports.http_port, &mut addresses.http), (ports.grpc_port, &mut addresses.grpc)] {
            if let Some(port) = port {
                let refused = |error| BindError { address: format!("{}:{port}", ports.host), error };
                let (socket, bound) = bind_tcp(&ports.host, port).map_err(refused)?;
                listeners.tcp.push(socket);
                *address = Some(bound);
            }
        }
        if let Some(path) = &ports.uds {
            let refused = |error| BindError { address: path.display().to_string(), error };
            let (socket, file) = bind_unix(path).map_err(refused)?;
            listeners.unix = Some(socket);
            listeners.file = Some(file);
            addresses.uds = Some(path.clone());
        }
        Ok((listeners, addresses))
    }

    /// Lets clients in. A second call has nothing left to do.
    pub(crate) fn listen(&mut self) -> io::Result<Listening> {
        let mut listening = Listening::default();
        for socket in self.tcp.drain(..) {
            socket.listen(BACKLOG)?;
            listening.tcp.push(socket.into());
        }
        if let Some(socket) = self.unix.take() {
            socket.listen(BACKLOG)?;
            listening.unix = Some(OwnedFd::from(socket).into());
        }
        Ok(listening)
    }
}

fn bind_tcp(host: &str, port: u16) -> io::Result<(Socket, SocketAddr)> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `::` takes IPv4 too, as people expect of it.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}

fn bind_unix(path: &Path) -> io::Result<(Socket, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody can connect before `listen`, so nobody sees the mode in between.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UDS_MODE))?;
    let inode = std::fs::metadata(path)?.ino();
    Ok((socket, SocketFile { path: path.to_owned(), inode }))
}

/// A socket file that nobody answers on was left by a process that is gone.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(_) => std::fs::remove_file(path),
    }
}

/// Removes the file when dropped, unless another process has put its own there.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // Whoever removed it meanwhile has done our work.
            let _gone = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(uds: Option<PathBuf>) -> DataPorts {
        DataPorts { host: "127.0.0.1".into(), http_port: Some(0), grpc_port: None, uds }
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("servekit-{}-{name}.sock", std::process::id()))
    }

    #[test]
    fn a_bound_port_refuses_until_it_listens() {
        let (mut listeners, addresses) = Listeners::bind(&ports(None)).expect("a free port");
        let address = addresses.http.expect("bound");
        assert_ne!(address.port(), 0);
        assert!(std::net::TcpStream::connect(address).is_err());
        let _listening = listeners.listen().expect("listens");
        assert!(std::net::TcpStream::connect(address).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = scratch("stale");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a file nobody listens on"));
        let (mut listeners, _) = Listeners::bind(&ports(Some(path.clone()))).expect("taken over");
        let _listening = listeners.listen().expect("listens");
        assert!(Listeners::bind(&ports(Some(path.clone()))).is_err());
        drop(listeners);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let path = scratch("file");
        std::fs::write(&path, "precious").expect("a file");
        assert!(Listeners::bind(&ports(Some(path.clone()))).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
        std::fs::remove_file(&path).expect("removed");
    }
}
