//! Bytes that wait for the socket.
