//! How long tests take: a name goes in, a line of the file that `TOOK` names comes out when the test has ended.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

/// A test that runs, until it is dropped. Without `TOOK` nothing is written.
pub(super) struct Took {
    name: String,
    start: Instant,
}

impl Took {
    pub(super) fn begin(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            start: Instant::now(),
        }
    }
}

impl Drop for Took {
    fn drop(&mut self) {
        let Some(path) = std::env::var_os("TOOK") else {
            return;
        };
        let line = format!("{:.1} {}\n", self.start.elapsed().as_secs_f64(), self.name);
        let file = OpenOptions::new().append(true).create(true).open(path);
        // The test's result does not depend on it.
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
