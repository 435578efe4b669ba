//! Laws over random routes and requests.

mod laws;
