//! What a text does to whom it replaces: the promises it keeps, what is lost, and what goes on with it.

pub mod changed;
pub mod loss;
pub mod promise;
pub mod taken_over;
