//! The definition of a command line in, its commands with their flags for the reference out.

use clap::{Arg, Command};

use crate::table;

const EXAMPLES: &str = "Examples:\n";
const CODES: &str = "Exit codes:";

/// The flags that every command has, then each command: how it is called, what it does, its arguments and examples.
///
/// What the help tells of exit codes is left out: the caller has them in a table.
pub fn commands(mut root: Command) -> String {
    root.build();
    let mut text = String::from("## Flags of every command\n\n");
    text.push_str(&arguments(&root, |arg| arg.is_global_set() || is_help(arg)));
    for command in root
        .get_subcommands()
        .filter(|it| it.get_name() != "help" && !it.is_hide_set())
    {
        text.push_str(&section(command));
    }
    text
}

fn section(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let name = command.get_bin_name().unwrap_or_default();
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n## {name}\n\n    {usage}\n\n{}\n", with_stops(&about));
    let table = arguments(command, |arg| !arg.is_global_set() && !is_help(arg));
    if !table.is_empty() {
        text.push_str(&format!("\n{table}"));
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    text.push_str(&after_help(
        &after.map(ToString::to_string).unwrap_or_default(),
    ));
    text
}

/// What stands below the help: examples as they are, other paragraphs on a line each.
fn after_help(after: &str) -> String {
    let paragraphs = after.replace("Example:\n", EXAMPLES);
    let paragraphs = paragraphs.split("\n\n").map(str::trim_end);
    let told = paragraphs.filter(|it| !it.is_empty() && !it.starts_with(CODES));
    told.map(|paragraph| match paragraph.strip_prefix(EXAMPLES) {
        Some(examples) => {
            let lines = examples.lines().map(|line| format!("  {line}\n"));
            format!("\nExamples:\n\n{}", lines.collect::<String>())
        }
        None => format!("\n{}\n", paragraph.replace('\n', " ")),
    })
    .collect()
}

/// Paragraphs with the full stops that clap takes away.
fn with_stops(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|it| it.trim_end().trim_end_matches('.'));
    let paragraphs: Vec<String> = paragraphs.map(|it| format!("{it}.")).collect();
    paragraphs.join("\n\n")
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

fn arguments(command: &Command, is_told: impl Fn(&Arg) -> bool) -> String {
    let told = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && is_told(arg));
    let mut rows: Vec<[String; 4]> = told.map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    // Arguments by their place first, then flags as they are defined.
    rows.sort_by_key(|[name, ..]| name.starts_with("`-"));
    table(["argument", "default", "variable", "what"], rows)
}

fn row(arg: &Arg) -> [String; 4] {
    let short = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let help = arg.get_long_help().or(arg.get_help());
    let help = help
        .map(ToString::to_string)
        .unwrap_or_default()
        .replace('\n', " ");
    let (help, variable) = without(&help, "env");
    let (help, told) = without(&help, "default");
    let defaults = arg
        .get_default_values()
        .iter()
        .map(|it| it.to_string_lossy());
    let defaults: Vec<_> = defaults.map(|it| format!("`{it}`")).collect();
    let is_told = arg.get_action().takes_values() && !arg.is_hide_default_value_set();
    let default = if is_told {
        defaults.join(", ")
    } else {
        String::new()
    };
    let variable = variable.or_else(|| Some(arg.get_env()?.to_string_lossy().into_owned()));
    [
        format!("`{short}{arg}`"),
        told.unwrap_or(default),
        variable.map(|it| format!("`{it}`")).unwrap_or_default(),
        format!("{}{}", help, possible_values(arg)),
    ]
}

/// A help without its `[name: …]`, and what is in there.
fn without(help: &str, name: &str) -> (String, Option<String>) {
    let found = help.split_once(&format!(" [{name}: "));
    match found.and_then(|(before, rest)| Some((before, rest.split_once(']')?))) {
        Some((before, (value, after))) => (format!("{before}{after}"), Some(value.to_owned())),
        None => (help.to_owned(), None),
    }
}

fn possible_values(arg: &Arg) -> String {
    if arg.is_hide_possible_values_set() || !arg.get_action().takes_values() {
        return String::new();
    }
    let values = arg.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set());
    let values: Vec<String> = values
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if values.is_empty() {
        String::new()
    } else {
        format!(": {}", values.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use clap::{arg, value_parser};

    use super::*;

    #[test]
    fn a_command_is_told_with_all_that_it_takes() {
        let run = Command::new("run")
            .about("Run it")
            .arg(
                arg!(-n --count <N> "How often [env: COUNT]")
                    .default_value("1")
                    .value_parser(value_parser!(u8)),
            )
            .arg(arg!([what] "a|b"))
            .after_help("Examples:\n  it run\n      once\n\nExit codes: 0 done\n\nMind\nthis.");
        let told = commands(Command::new("it").subcommand(run));
        let wanted = "\
## Flags of every command

| argument | default | variable | what |
|---|---|---|---|
| `-h, --help` |  |  | Print help |

## it run

    it run [OPTIONS] [what]

Run it.

| argument | default | variable | what |
|---|---|---|---|
| `[what]` |  |  | a\\|b |
| `-n, --count <N>` | `1` | `COUNT` | How often |

Examples:

    it run
        once

Mind this.
";
        assert_eq!(told, wanted);
    }
}
