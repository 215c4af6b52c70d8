//! Upstream connections of one worker: idle HTTP/1 connections, HTTP/2 connections with room, and who waits for them.

pub mod connect;
