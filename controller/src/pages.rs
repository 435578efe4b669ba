//! The pages that HAProxy answers with itself: a config in, what is wrong with their files out.

use std::io;
use std::path::{Path, PathBuf};

use planner::config::Config;
use planner::config::policy::{MAX_PAGE, PageError};
use planner::model::BackendName;

/// Why a page cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPage {
    /// Its file cannot be read.
    #[error("{key} of backend {backend}: cannot read {}: {source}", path.display())]
    Read {
        /// Its key.
        key: &'static str,
        /// The backend.
        backend: BackendName,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// HAProxy would not take it, or answer something else than is meant.
    #[error("{key} of backend {backend}: {} {wrong}", path.display())]
    Content {
        /// Its key.
        key: &'static str,
        /// The backend.
        backend: BackendName,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        wrong: PageError,
    },
}

/// Looks at all pages of a config.
pub(crate) fn bad(config: &Config) -> Vec<BadPage> {
    let backends = config.backends.iter();
    let pages = backends.flat_map(|backend| backend.pages().map(|page| (&backend.name, page)));
    let look = |(backend, (key, page, status)): (
        &BackendName,
        (&'static str, &planner::config::policy::Page, _),
    )| {
        let (backend, path) = (backend.clone(), page.path.clone());
        match read(&path) {
            Err(source) => Some(BadPage::Read {
                key,
                backend,
                path,
                source,
            }),
            Ok(bytes) => {
                let wrong = page.judge(&bytes, status).err()?;
                Some(BadPage::Content {
                    key,
                    backend,
                    path,
                    wrong,
                })
            }
        }
    };
    pages.filter_map(look).collect()
}

/// No more of it than tells that it is too large, and nothing but a file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_PAGE as u64 * 16).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(dir: &Path, page: &str, content: Option<&[u8]>) -> Vec<String> {
        let path = dir.join(page);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let text = format!(
            "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"web\"\ntags = {{ a = \"b\" }}\nport = 1\n\
             maintenance_page = {path:?}\n"
        );
        let config = Config::parse(&text, []).unwrap();
        bad(&config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_page_that_is_not_there_or_too_large_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let told = said(dir.path(), "none.html", None);
        assert!(
            told[0].starts_with("maintenance_page of backend web: cannot read "),
            "{told:?}"
        );
        let told = said(dir.path(), "large.html", Some(&[b'x'; MAX_PAGE + 1]));
        assert!(told[0].contains("15361 bytes"), "{told:?}");
        assert!(said(dir.path(), "page.html", Some(&[b'x'; MAX_PAGE])).is_empty());
        std::fs::create_dir(dir.path().join("dir.html")).unwrap();
        let told = said(dir.path(), "dir.html", None);
        assert!(told[0].ends_with("it is no file"), "{told:?}");
    }
}
