//! The definition of the command line in, manual pages out.

use std::io;

use clap::{Command, CommandFactory as _, builder::Resettable};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use crate::{
    cli::Cli,
    exit::{Exit, Failure},
};

/// How paragraphs after the help begin that have sections of their own in the manual.
const EXAMPLES: &str = "Examples:";
const CODES: &str = "Exit codes:";

/// What the manual pages say of the environment.
const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "SERF_RPC_ADDR",
        "RPC address of the Serf agent, for want of --rpc-addr",
    ),
    (
        "SERF_RPC_AUTH",
        "RPC auth key of the Serf agent, for want of --rpc-auth and --rpc-auth-file",
    ),
    (
        "SERF_RPC_AUTH_FILE",
        "A file with the RPC auth key, for want of the same two; it goes before SERF_RPC_AUTH",
    ),
    ("NO_COLOR", "Set to anything, it ends colours"),
];

/// The manual page of serfctl, or of one of its commands, in roff.
///
/// # Errors
///
/// There is no such command.
pub(crate) fn man(command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut root = Cli::command()
        .disable_help_subcommand(true)
        .subcommand_help_heading("COMMANDS")
        .subcommand_value_name("COMMAND");
    root.build();
    let source = concat!("serfctl ", env!("CARGO_PKG_VERSION")).to_owned();
    let page = match command {
        None => root,
        Some(name) => root
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::NoSuchCommand(name.to_owned()))?,
    };
    page_of(page, source).map_err(Failure::Output)
}

/// The page of a command that is built: what its definition says, then what it does not.
fn page_of(command: Command, source: String) -> io::Result<Vec<u8>> {
    let rest = rest_of_page(&command);
    // The version is in the source, and what comes after the help in the rest.
    let defined = command
        .version(Resettable::Reset)
        .after_help(Resettable::Reset)
        .after_long_help(Resettable::Reset);
    let mut out = Vec::new();
    Man::new(defined).source(source).render(&mut out)?;
    rest.to_writer(&mut out)?;
    Ok(out)
}

fn rest_of_page(command: &Command) -> Roff {
    let after = command.get_after_long_help().or(command.get_after_help());
    let after = after.map(ToString::to_string).unwrap_or_default();
    let mut page = Roff::new();
    exit_status(&mut page);
    environment(&mut page);
    notes(&mut page, &after);
    examples(&mut page, &after);
    see_also(&mut page, command.get_name() == "serfctl");
    page
}

fn exit_status(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::TOLD {
        item(page, &(exit as u8).to_string(), meaning);
    }
}

fn environment(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in ENVIRONMENT {
        item(page, name, meaning);
    }
}

/// What the text after the help says beside examples and exit codes.
fn notes(page: &mut Roff, after: &str) {
    let has_no_section =
        |text: &&str| !text.is_empty() && !text.starts_with(EXAMPLES) && !text.starts_with(CODES);
    let notes: Vec<_> = after
        .split("\n\n")
        .map(str::trim)
        .filter(has_no_section)
        .collect();
    if notes.is_empty() {
        return;
    }
    page.control("SH", ["NOTES"]);
    for note in notes {
        page.control("PP", [])
            .text([roman(note.replace('\n', " "))]);
    }
}

/// The examples after the help, each on its line.
fn examples(page: &mut Roff, after: &str) {
    let Some(examples) = after
        .split("\n\n")
        .find_map(|text| text.trim().strip_prefix(EXAMPLES))
    else {
        return;
    };
    page.control("SH", ["EXAMPLES"]).control("nf", []);
    for example in examples
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        page.text([roman(example)]);
    }
    page.control("fi", []);
}

fn see_also(page: &mut Roff, is_root: bool) {
    page.control("SH", ["SEE ALSO"]);
    let mut pages = vec![bold("serf"), roman("(1)")];
    if !is_root {
        pages.splice(..0, [bold("serfctl"), roman("(1), ")]);
    }
    page.text(pages);
}

fn item(page: &mut Roff, name: &str, meaning: &str) {
    page.control("TP", [])
        .text([bold(name)])
        .text([roman(meaning)]);
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn page(command: Option<&str>) -> String {
        String::from_utf8(man(command).unwrap()).unwrap()
    }

    #[test]
    fn each_command_has_a_page_and_no_other() {
        assert!(page(None).contains("members"));
        assert!(page(Some("members")).contains("detailed"));
        assert!(man(Some("nothing")).is_err());
    }

    #[test]
    fn each_page_has_its_sections_once_and_refers_to_pages_that_are_there() {
        let sections = [
            ".SH \"EXIT STATUS\"\n",
            "cannot connect to the agent",
            ".SH ENVIRONMENT\n",
            ".SH \"SEE ALSO\"\n",
        ];
        let commands = Cli::command();
        let names = commands
            .get_subcommands()
            .map(|command| Some(command.get_name()));
        for command in iter::once(None).chain(names) {
            let page = page(command);
            for section in sections {
                assert_eq!(page.matches(section).count(), 1, "{section} of {command:?}");
            }
            assert!(
                !page.contains("serfctl\\-help") && !page.contains("EXTRA"),
                "{command:?}"
            );
        }
        assert!(man(Some("help")).is_err());
    }

    #[test]
    fn examples_have_a_section_and_a_line_each() {
        let after = "Examples:\n  serfctl a --b | c\n  serfctl 'd'\n\nAnd\nthis.";
        let page = rest_of_page(&Command::new("a").after_help(after)).render();
        assert!(page.contains(".SH NOTES\n.PP\nAnd this.\n"), "{page}");
        let expected = ".SH EXAMPLES\n.nf\nserfctl a \\-\\-b | c\nserfctl \\*(Aqd\\*(Aq\n.fi\n";
        assert!(page.contains(expected), "{page}");
    }

    /// docs/reference/serfctl.md.
    #[test]
    fn every_command_is_documented_with_its_flags_and_nothing_else() {
        let codes =
            Exit::TOLD.map(|(exit, meaning)| [(exit as u8).to_string(), meaning.to_owned()]);
        let codes = reference::table(["code", "when"], codes);
        let variables =
            ENVIRONMENT.map(|(name, meaning)| [format!("`{name}`"), meaning.to_owned()]);
        let variables = reference::table(["variable", "what"], variables);
        let commands = reference::commands(Cli::command());
        let said = format!("## Exit codes\n\n{codes}\n## Variables\n\n{variables}\n{commands}");
        reference::hold("serfctl.md", &said);
    }
}
