//! Hostile text made harmless.
//!
//! Process names, arguments and cgroup names are chosen by whoever runs a process. A name may hold terminal
//! control sequences, line breaks that forge further lines, or characters that turn the text around so that it
//! reads as something else ("Trojan Source"). Here they become visible.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that are not shown as they are.
fn is_hostile(c: char) -> bool {
    // C0, DEL and C1: U+009B starts a control sequence as well as ESC [ does.
    c.is_control()
        || matches!(c,
            // Direction marks, embeddings, overrides and isolates.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Invisible: zero-width characters, tags, the byte order mark.
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}')
}

/// The text with everything hostile spelled out: `\x1b`, `\n`, `\u{202e}`.
///
/// A backslash stays as it is: this is for reading, not for parsing back.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) {
            push_spelled(&mut safe, c, |code| format!("\\u{{{code:x}}}"));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

fn push_spelled(out: &mut String, c: char, unicode: impl Fn(u32) -> String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c.is_ascii() => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c => out.push_str(&unicode(u32::from(c))),
    }
}

/// Text for the log of a GitHub workflow, without what its runner takes for orders: a line that begins with `::`, also
/// behind spaces, and `##[` anywhere (actions/runner, src/Runner.Common/ActionCommand.cs).
#[must_use]
pub fn workflow_commands(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        safe.push_str(line.get(..line.len() - rest.len()).unwrap_or_default());
        if rest.starts_with("::") {
            safe.push('\\');
        }
        safe.push_str(&rest.replace("##[", "##\\["));
    }
    safe
}

/// JSON text with everything hostile inside its strings as `\u` escapes: the same JSON.
///
/// JSON itself demands that for C0 only. Outside of strings JSON is printable ASCII and line breaks.
#[must_use]
pub fn json(json: String) -> String {
    let hostile = |c: char| is_hostile(c) && c != '\n';
    if !json.contains(hostile) {
        return json;
    }
    let mut safe = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if hostile(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A command line as a shell would take it, at most about `limit` characters long.
///
/// Arguments that alone are too long are cut in the middle, so that the name at the end of a long path stays;
/// then the line is cut at its end. A `…` marks each cut.
///
/// A single argument is shown without quotes: programs that set their own title (`npm run dev`,
/// `nginx: worker process`) leave one argument with spaces in it.
#[must_use]
pub fn command_line(args: &[String], limit: usize) -> String {
    let limit = limit.max(16);
    let titled = args.first().is_some_and(|first| first.contains(' '));
    let args = match args {
        // A title that is shorter than the arguments it replaced leaves empty ones behind.
        [first, rest @ ..] if titled && rest.iter().all(String::is_empty) => {
            return cut_middle(&text(first), limit);
        }
        args => args,
    };
    let mut line = String::new();
    let mut length = 0;
    for arg in args {
        // A script of several lines is one argument; its beginning says what it is.
        let word = cut_middle(arg, limit * 2 / 3);
        let word = quote(&word);
        let word_length = word.chars().count() + usize::from(length != 0);
        if length + word_length > limit {
            line.push_str(if length == 0 { "…" } else { " …" });
            break;
        }
        if length != 0 {
            line.push(' ');
        }
        line.push_str(&word);
        length += word_length;
    }
    line
}

/// One argument, quoted only when a shell would need it; hostile characters as `$'\x1b'`.
#[must_use]
pub fn quote(arg: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-…".contains(c);
    if arg.contains(is_hostile) {
        let mut quoted = String::from("$'");
        for c in arg.chars() {
            match c {
                '\'' | '\\' => {
                    quoted.push('\\');
                    quoted.push(c);
                }
                c if is_hostile(c) => push_spelled(&mut quoted, c, |code| {
                    if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") }
                }),
                c => quoted.push(c),
            }
        }
        quoted.push('\'');
        Cow::Owned(quoted)
    } else if !arg.is_empty() && arg.chars().all(plain) {
        Cow::Borrowed(arg)
    } else {
        Cow::Owned(format!("'{}'", arg.replace('\'', "'\\''")))
    }
}

/// At most `limit` characters: the middle gives way to `…`.
#[must_use]
pub fn cut_middle(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let tail = limit.saturating_sub(1) / 2;
    let head = limit.saturating_sub(1) - tail;
    text.chars().take(head).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(args: &[&str], limit: usize) -> String {
        command_line(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>(), limit)
    }

    #[test]
    fn hostile_characters_are_spelled_out() {
        let cases = [
            ("vite", "vite"),
            ("größe 日本 🚀", "größe 日本 🚀"),
            ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
            ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{2069}", "a\\u{202e}b\\u{2066}c\\u{2069}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("back\\slash\x7f\0", "back\\slash\\x7f\\x00"),
        ];
        for (hostile, safe) in cases {
            assert_eq!(text(hostile), safe);
        }
    }

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        assert_eq!(line(&["sh", "-c", "a b"], 80), "sh -c 'a b'");
        assert_eq!(line(&["pkill", "-f", "vite|esbuild"], 80), "pkill -f 'vite|esbuild'");
        assert_eq!(line(&["echo", "it's", ""], 80), "echo 'it'\\''s' ''");
        assert_eq!(line(&["node", "/app/node_modules/.bin/vite"], 80), "node /app/node_modules/.bin/vite");
        assert_eq!(line(&["sh", "-c", "a\nb'\\\x1b\u{202e}"], 80), r"sh -c $'a\nb\'\\\x1b\u202e'");
        assert_eq!(line(&[], 80), "");
    }

    #[test]
    fn a_title_that_a_program_gave_itself_is_not_quoted() {
        assert_eq!(line(&["npm run dev"], 80), "npm run dev");
        assert_eq!(line(&["nginx: worker process", "", ""], 80), "nginx: worker process");
        assert_eq!(line(&["my program", "arg"], 80), "'my program' arg");
        assert_eq!(line(&["evil title\x1b[2J"], 80), "evil title\\x1b[2J");
    }

    #[test]
    fn a_long_command_line_is_cut_and_says_so() {
        let path = format!("/{}/vite", "x".repeat(200));
        let cut = line(&["node", &path, "--port", "5173"], 60);
        assert!(cut.starts_with("node /xxx"), "{cut}");
        assert!(cut.contains('…') && cut.contains("/vite --port"), "{cut}");
        let many = vec!["word".to_owned(); 100];
        let cut = command_line(&many, 24);
        assert_eq!(cut, "word word word word word …");
        assert_eq!(cut_middle("abcdefghij", 5), "ab…ij");
        assert_eq!(cut_middle("abc", 3), "abc");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for arg in [
            "a b",
            "it's",
            "$HOME `id` \"q\" \\",
            "line\nbreak\ttab\x1b",
            "*?[a]",
            "",
            "~",
            "#x",
            "ü \u{202e}",
        ] {
            let script = format!("printf %s {}", quote(arg));
            let Ok(output) =
                std::process::Command::new("bash").env("LC_ALL", "C.UTF-8").args(["-c", &script]).output()
            else {
                return; // no bash on this machine
            };
            assert_eq!(String::from_utf8_lossy(&output.stdout), arg, "{script}");
        }
    }

    proptest! {
        #[test]
        fn nothing_hostile_survives(input in any::<String>(), args in any::<Vec<String>>(), limit in 0_usize..200) {
            prop_assert!(!text(&input).contains(is_hostile));
            let line = command_line(&args, limit);
            prop_assert!(!line.contains(is_hostile));
        }

        #[test]
        fn json_means_the_same_afterwards(input in any::<String>()) {
            let safe = json(serde_json::to_string(&input).unwrap());
            prop_assert!(!safe.contains(is_hostile));
            prop_assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), input);
        }

        #[test]
        fn cutting_keeps_the_limit(input in any::<String>(), limit in 1_usize..50) {
            prop_assert!(cut_middle(&input, limit).chars().count() <= limit);
        }
    }
}
