//! Sends signals and is gone a moment later: the killer that nobody finds in /proc any more.

#![allow(clippy::print_stdout, reason = "how a flood tells what it sent")]

use std::time::Instant;

use nix::errno::Errno;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("not a number: {text}"));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args.as_slice() {
        ["kill", pid, signo] => send(number(pid), number(signo)),
        ["flood", pid, signo, per_second, seconds] => {
            flood(number(pid), number(signo), number(per_second), number(seconds));
        }
        _ => panic!("unknown way to strike: {args:?}"),
    }
}

fn send(target: i64, signo: i64) {
    // SAFETY: plain numbers; the test that runs this owns the target.
    assert_eq!(unsafe { libc::syscall(libc::SYS_kill, target, signo) }, 0, "cannot send: {}", Errno::last());
}

/// Sends `per_second` signals a second for `seconds`, evenly, and prints how many it sent.
fn flood(pid: i64, signo: i64, per_second: i64, seconds: i64) {
    let start = Instant::now();
    let total = per_second * seconds;
    let mut sent = 0;
    while sent < total {
        let elapsed_us = i64::try_from(start.elapsed().as_micros()).unwrap_or(i64::MAX);
        // Whoever cannot keep up sends what it can, and no longer than it was told.
        if elapsed_us >= seconds * 1_000_000 {
            break;
        }
        let due = (elapsed_us * per_second / 1_000_000).min(total);
        while sent < due {
            send(pid, signo);
            sent += 1;
        }
    }
    println!("sent {sent} in {} ms", start.elapsed().as_millis());
}
