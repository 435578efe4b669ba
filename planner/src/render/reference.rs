//! docs/reference/template.md, held to what templates are really given. A test.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tests::{FRONTEND, NODES, config, three};
use super::{Renderer, context::context};

const PAGE: &str = include_str!("../../../docs/reference/template.md");

/// Whose variable it is, as the page has it in a heading, and its name.
type Name = (&'static str, String);

const FILE: &str = "Of the whole file";
const BACKEND: &str = "Of each backend";
const SERVER: &str = "Of each server";

/// What variables there are in this value, with their types.
fn walk(of: &'static str, prefix: &str, value: &Value, found: &mut BTreeMap<Name, &'static str>) {
    let Some(object) = value.as_object() else {
        return;
    };
    for (key, value) in object {
        let name = format!("{prefix}{key}");
        let (below, of_below) = match key.as_str() {
            "backends" => (value.get(0), BACKEND),
            "servers" => (value.get(0), SERVER),
            _ => (None, of),
        };
        match below {
            Some(below) => walk(of_below, "", below, found),
            None => walk(of, &format!("{name}."), value, found),
        }
        let kind = match value {
            Value::Object(_) => "table",
            Value::Array(_) => "list",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
        };
        found.insert((of, name), kind);
    }
}

fn given(text: &str) -> BTreeMap<Name, &'static str> {
    let value = serde_json::to_value(context(&config(text), &three())).unwrap();
    let mut found = BTreeMap::from([((FILE, "stamp".to_owned()), "string")]);
    walk(FILE, "", &value, &mut found);
    found
}

/// Whether a variable is left out where the one that it is part of is there.
fn is_left_out((of, name): &Name, given: &BTreeMap<Name, &'static str>) -> bool {
    let parent = name
        .rsplit_once('.')
        .map(|(parent, _)| (*of, parent.to_owned()));
    let is_there = parent.is_none_or(|parent| given.contains_key(&parent));
    is_there && !given.contains_key(&(*of, name.clone()))
}

/// The variables of the page with their types. `check` has its parts as one name, and stands in no row of its own.
fn documented() -> BTreeMap<Name, String> {
    let mut found = BTreeMap::new();
    for of in [FILE, BACKEND, SERVER] {
        let (_, section) = PAGE.split_once(&format!("## {of}\n")).unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            for name in cells[1].split(", ") {
                let name = name.trim_matches('`').to_owned();
                found.insert((of, name), cells[2].to_owned());
            }
        }
    }
    found
}

#[test]
fn every_variable_is_documented_with_its_type_and_nothing_else() {
    let haproxy = "[haproxy]\nuser = \"haproxy\"\ngroup = \"haproxy\"\nchroot = \"/c\"\nstats_socket_user = \"u\"\nstats_socket_group = \"g\"\n";
    let route = "[[route]]\nbackend = \"nodes\"\n";
    let page = "stats_bind = \":1936\"\nlog = \"stdout\"\n";
    let check = "[backend.check]\npath = \"/\"\nhost = \"h\"\nstatus = 200\nport = 1\ntls = true\nsni = \"h\"\nsend_proxy = true\ntimeout = \"1s\"\n";
    let policy = "max_queue = 1\nslow_start = \"1s\"\ncompress = \"text/html\"\nmaintenance_page = \"/p.html\"\n\
        sticky = { max_idle = \"1h\", max_life = \"1h\" }\nbreaker = { page = \"/p.html\" }\noverload = true\n\
        tls = { sni = \"host\", verify_host = \"h\" }\n";
    let all = given(&format!(
        "{haproxy}{FRONTEND}{page}{NODES}maxconn = 1\nserver_options = \"send-proxy\"\n{policy}{check}{route}"
    ));
    // What is optional of a table that is optional itself.
    let bare = given(&format!(
        "{FRONTEND}{NODES}maintenance_page = \"/p.http\"\nsticky = true\nbreaker = {{ page = \"/p.http\" }}\n\
         check = \"HEAD /\"\ntls = {{ verify = \"none\" }}\n"
    ));
    let few = given(&format!("{FRONTEND}{NODES}check = \"HEAD /\"\n"));
    let own = given(&format!(
        "[haproxy]\ntemplate = \"/t\"\n{NODES}check = \"HEAD /\"\n"
    ));
    let unchecked = given(&format!("{FRONTEND}{NODES}check = \"off\"\n"));
    assert!(all.values().all(|kind| *kind != "null"), "{all:?}");
    let documented = documented();
    let names = |it: BTreeSet<&Name>| it.into_iter().cloned().collect::<Vec<_>>();
    let is_whole = |(of, name): &&Name| {
        (*of, name.as_str()) != (FILE, "haproxy") && (*of, name.as_str()) != (BACKEND, "check")
    };
    let there: BTreeSet<&Name> = all.keys().filter(is_whole).collect();
    assert_eq!(names(documented.keys().collect()), names(there));
    for (name, said) in &documented {
        let of_check = name.1.starts_with("check.");
        let optional = is_left_out(name, &few)
            || is_left_out(name, &bare)
            || is_left_out(
                name,
                &given(&format!(
                    "{FRONTEND}{NODES}check = \"HEAD /\"\nbreaker = true\n"
                )),
            )
            || is_left_out(name, &own)
            || (!of_check && is_left_out(name, &unchecked));
        let (said, said_optional) = match said.strip_suffix(", optional") {
            Some(said) => (said, true),
            None => (said.as_str(), false),
        };
        assert!(
            said.starts_with(all[name]),
            "{name:?}: {} and not {said}",
            all[name]
        );
        assert_eq!(optional, said_optional, "{name:?}");
    }
}

/// The names in the debug text of an environment, from this field to the next.
fn names(shown: &str, field: &str, next: &str) -> String {
    let (_, rest) = shown.split_once(&format!("{field}: ")).unwrap();
    let (names, _) = rest.split_once(&format!("{next}: ")).unwrap();
    let names: BTreeSet<&str> = names.split('"').skip(1).step_by(2).collect();
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The table of filters, tests and functions of docs/reference/template.md.
#[test]
fn every_filter_test_and_function_is_documented() {
    let env = Renderer::built_in().unwrap().env;
    let functions: BTreeSet<String> = env.globals().map(|(name, _)| format!("`{name}`")).collect();
    let functions: Vec<String> = functions.into_iter().collect();
    let shown = format!("{env:?}");
    let rows = [
        [
            "filters, `{{ name | upper }}`".to_owned(),
            names(&shown, "filters", "templates"),
        ],
        [
            "tests, `{% if name is defined %}`".to_owned(),
            names(&shown, "tests", "filters"),
        ],
        [
            "functions, `{{ range(3) }}`".to_owned(),
            functions.join(", "),
        ],
    ];
    reference::hold(
        "template.md",
        &reference::table(["what", "which there are"], rows),
    );
}
