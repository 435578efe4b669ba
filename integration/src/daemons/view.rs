//! How HAProxy itself sees its servers, in words that two configurations can be compared by: `show servers state` and
//! `show stat` in, a line for each server out.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::daemons::haproxy::Haproxy;

/// Columns of `show servers state` that say what a server is, and not since when or under which number.
const STATE: [&str; 12] = [
    "srv_addr",
    "srv_port",
    "srv_op_state",
    "srv_uweight",
    "srv_iweight",
    "srv_fqdn",
    "srvrecord",
    "srv_use_ssl",
    "srv_check_port",
    "srv_check_addr",
    "srv_agent_addr",
    "srv_agent_port",
];

/// Those of `show stat`.
const STAT: [&str; 7] = [
    "cookie",
    "act",
    "bck",
    "slim",
    "qlimit",
    "check_rise",
    "check_fall",
];

/// Every server of all backends, as `backend/server`, with what HAProxy says of it.
///
/// # Errors
/// When it does not answer.
pub async fn servers(haproxy: &Haproxy) -> Result<BTreeMap<String, String>> {
    let state = haproxy.command("show servers state").await?;
    let mut lines = state.lines().skip(1);
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1)
        .collect();
    let mut view = BTreeMap::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let values: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(' ')).collect();
        let value = |column: &str| values.get(column).copied().unwrap_or("?");
        let said: Vec<String> = STATE
            .iter()
            .map(|column| format!("{column}={}", value(column)))
            .collect();
        // of the bits those that say what is wanted: maint and drain (`admin_state` of HAProxy's Management Guide)
        let admin = value("srv_admin_state").parse::<u32>().unwrap_or_default() & 0b1001;
        let key = format!("{}/{}", value("be_name"), value("srv_name"));
        view.insert(key, format!("{} admin={admin}", said.join(" ")));
    }
    for line in haproxy.stat().await? {
        let key = format!("{}/{}", line.get("pxname"), line.get("svname"));
        if let Some(said) = view.get_mut(&key) {
            for column in STAT {
                *said += &format!(" {column}={}", line.get(column));
            }
        }
    }
    Ok(view)
}
