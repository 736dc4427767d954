//! All connections, and whose turn it is.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::{Registry, Token};

use crate::connection::Connection;
use crate::requests::Requests;

/// Connections, each in a place of its own for the whole run.
#[derive(Debug)]
pub(crate) struct Pool {
    address: SocketAddr,
    streams_max: u32,
    places: Vec<Place>,
    /// Places with room, the one that has rested for longest first: so all are in use, as with many callers.
    ready: VecDeque<u32>,
    reconnects: u64,
}

#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    /// It stands in `ready`, where a connection that lost its room is found out later.
    queued: bool,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr, connections: u32, streams_max: u32) -> Self {
        let places: Vec<Place> = (0..connections).map(|_| Place::default()).collect();
        Self { address, streams_max, places, ready: VecDeque::new(), reconnects: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// Whether all of the first `count` connections have room.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.places[..count].iter().all(|place| place.connection.as_ref().is_some_and(Connection::has_room))
    }

    /// Begins to connect in a place.
    pub(crate) fn open(&mut self, at: usize, requests: &Requests, registry: &Registry) -> io::Result<()> {
        let connection = Connection::open(self.address, requests, self.streams_max, (registry, Token(at)))?;
        self.places[at].connection = Some(connection);
        Ok(())
    }

    /// The connection at a place.
    pub(crate) fn get(&mut self, at: usize) -> Option<&mut Connection> {
        self.places.get_mut(at)?.connection.as_mut()
    }

    /// The next one with room; it gives up its turn.
    pub(crate) fn next(&mut self) -> Option<usize> {
        while let Some(at) = self.ready.pop_front() {
            let place = &mut self.places[at as usize];
            place.queued = false;
            if place.connection.as_ref().is_some_and(Connection::has_room) {
                return Some(at as usize);
            }
        }
        None
    }

    /// Whether some place stands in line; its connection may have lost its room meanwhile.
    pub(crate) fn has_turn(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Gives a place a turn where its connection has room.
    pub(crate) fn queue(&mut self, at: usize) {
        let place = &mut self.places[at];
        if !place.queued && place.connection.as_ref().is_some_and(Connection::has_room) {
            place.queued = true;
            self.ready.push_back(at as u32);
        }
    }

    /// Closes a connection and opens another in its place. One that never was connected is left closed until the next
    /// tick: a server that takes no connections is not asked all the time.
    pub(crate) fn replace(&mut self, at: usize, requests: &Requests, registry: &Registry) {
        let connected = self.places[at].connection.take().is_some_and(|connection| connection.is_connected());
        if connected {
            self.reopen(at, requests, registry);
        }
    }

    /// Opens again what was left closed.
    pub(crate) fn on_tick(&mut self, requests: &Requests, registry: &Registry) {
        for at in 0..self.places.len() {
            if self.places[at].connection.is_none() {
                self.reopen(at, requests, registry);
            }
        }
    }

    fn reopen(&mut self, at: usize, requests: &Requests, registry: &Registry) {
        // Without a socket now, the next tick tries again.
        self.reconnects += u64::from(self.open(at, requests, registry).is_ok());
    }
}
