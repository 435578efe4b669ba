//! Cookies in, how often a session has been here out.

use std::collections::{HashMap, VecDeque};

/// More sessions are not kept; the oldest goes first.
const MAX: usize = 10_000;
/// The cookie that carries the id.
pub(crate) const COOKIE: &str = "sessionid";

/// The sessions of this server, which no other server knows.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    views: HashMap<u64, u64>,
    order: VecDeque<u64>,
}

impl Sessions {
    /// Counts a view: the session's id and how many it has now. An id that is not known here counts from one.
    pub(crate) fn view(&mut self, given: Option<u64>, fresh: u64) -> (u64, u64) {
        let id = given.unwrap_or(fresh);
        if !self.views.contains_key(&id) {
            self.order.push_back(id);
            if self.order.len() > MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.views.remove(&oldest);
            }
        }
        let views = self.views.entry(id).or_default();
        *views += 1;
        (id, *views)
    }
}

/// The id in a `Cookie` header.
pub(crate) fn id_of(cookies: &str) -> Option<u64> {
    cookies
        .split(';')
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .and_then(|(_, id)| u64::from_str_radix(id, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_of_a_session_are_counted_and_one_from_elsewhere_begins_anew() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.view(None, 7), (7, 1));
        assert_eq!(sessions.view(Some(7), 8), (7, 2));
        assert_eq!(sessions.view(Some(99), 8), (99, 1));
    }

    #[test]
    fn no_more_sessions_than_so_many_are_kept() {
        let mut sessions = Sessions::default();
        for id in 0..=MAX as u64 {
            sessions.view(None, id);
        }
        assert_eq!(sessions.views.len(), MAX);
        assert_eq!(sessions.view(Some(0), 1 << 40), (0, 1));
    }

    #[test]
    fn the_id_is_found_among_other_cookies() {
        assert_eq!(id_of("a=b; sessionid=ff; c=d"), Some(255));
        assert_eq!(id_of("sessionid=x"), None);
    }
}
