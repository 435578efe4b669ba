//! The name of a group in, its number out.

use std::io;

/// Where groups are listed (group(5)); those of a directory service have to be given as numbers.
const GROUPS: &str = "/etc/group";

/// The number of a group of this host; a number stands for itself.
///
/// # Errors
/// When there is no such group, or the list cannot be read.
pub(crate) fn gid(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = String::from_utf8_lossy(&std::fs::read(GROUPS)?).into_owned();
    listed(&groups, name).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{GROUPS} has no group {name}; one from elsewhere is given by its number"),
        )
    })
}

fn listed(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_a_line_of_the_list_or_a_number() {
        let groups = "root:x:0:\nhaproxy:x:113:serf\nbroken\nodd:x:y:\n";
        assert_eq!(listed(groups, "haproxy"), Some(113));
        assert_eq!(listed(groups, "hap"), None);
        assert_eq!(listed(groups, "broken"), None);
        assert_eq!(listed(groups, "odd"), None);
        assert_eq!(gid("113").unwrap(), 113);
        assert_eq!(gid("root").unwrap(), 0);
        assert!(gid("no-such-group").is_err());
    }
}
