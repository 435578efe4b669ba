mod laws;
mod model;
mod plans;
mod texts;
