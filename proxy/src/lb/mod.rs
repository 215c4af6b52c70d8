//! Load balancers: pure pickers over a snapshot of hosts, with cursor and randomness given by the caller.
