//! Signals in, an end out, where the system ends nobody for them.

use std::{
    process,
    sync::{Arc, atomic::AtomicBool},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};

/// Lets the signals that ask a program to end do so in the first process of a container too (`exec serfctl watch`): for
/// that one the kernel has no default. It ends at once, with the code that a shell has for the signal; any other process
/// ends by the signal itself.
pub(crate) fn end_as_the_first_process() {
    if process::id() != 1 {
        return;
    }
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        let always = Arc::new(AtomicBool::new(true));
        // Without it all goes on, and SIGKILL is left.
        flag::register_conditional_shutdown(signal, 128 + signal, always).ok();
    }
}
