//! The definition of the command line in, completions and manual pages out.

use clap::CommandFactory as _;

use crate::{cli::Cli, exit::Failure};

/// The completions for a shell, for it to source.
pub(crate) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "serfctl", &mut out);
    out
}

/// The manual page of serfctl, or of one of its commands, in roff.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn man(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut root = Cli::command();
    root.build();
    let page = match command {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::NoSuchCommand(name.to_owned()))?,
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut out)
        .map_err(Failure::Output)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_commands_and_flags() {
        for shell in [
            clap_complete::Shell::Bash,
            clap_complete::Shell::Zsh,
            clap_complete::Shell::Fish,
        ] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(
                script.contains("members") && script.contains("detailed"),
                "{shell}"
            );
        }
    }

    #[test]
    fn each_command_has_a_page_and_no_other() {
        assert!(
            String::from_utf8(man(None).unwrap())
                .unwrap()
                .contains("members")
        );
        assert!(
            String::from_utf8(man(Some("members")).unwrap())
                .unwrap()
                .contains("detailed")
        );
        assert!(man(Some("nothing")).is_err());
    }
}
