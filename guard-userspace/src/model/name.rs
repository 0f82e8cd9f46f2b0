//! What people call a process: `vite`, not `node`.

use super::interpreter::Interpreter;
use super::select::Subject;
use super::text::Comm;

/// What a person calls a process.
///
/// The script of an interpreter (`vite`, `keepalive-dev.sh`), the first word of a title it gave itself
/// (`npm run dev` is `npm`), else its program; its comm where that is another word than the program's.
#[must_use]
pub fn name(subject: &Subject<'_>) -> String {
    // Nothing forces a program to be called by a word: `exec -a ''`.
    let name = own_name(subject);
    if name.is_empty() { subject.comm.to_text() } else { name }
}

fn own_name(subject: &Subject<'_>) -> String {
    match Program::of(subject.exe, subject.cmdline.unwrap_or_default()) {
        Program::Script(interpreter, path) if interpreter.is_javascript() => javascript_name(path),
        Program::Script(_, path) => basename(path).to_owned(),
        Program::Titled(word) => word.to_owned(),
        Program::Interpreter => match (subject.exe, subject.cmdline.and_then(<[String]>::first)) {
            // `/bin/sh` may be a link to dash, and busybox is everything: the word it was called by is better.
            (_, Some(argv0)) => basename(argv0.trim_start_matches('-')).to_owned(),
            (Some(exe), None) => basename(exe).to_owned(),
            (None, None) => subject.comm.to_text(),
        },
        Program::Other => {
            let name = binary_name(subject);
            let kind = subject.cmdline.and_then(chromium_kind);
            kind.map_or_else(|| name.clone(), |kind| format!("{name} {kind}"))
        }
    }
}

/// What a process of Chromium, or of what is built on it, is for: `--type=renderer` is its first argument. One that was
/// forked by a zygote says it in the title that it gives itself.
fn chromium_kind(cmdline: &[String]) -> Option<&'static str> {
    const KINDS: [&str; 5] = ["renderer", "zygote", "gpu-process", "utility", "ppapi"];
    let first = match cmdline {
        [title] => title.split_whitespace().nth(1)?,
        [_, first, ..] => first,
        [] => return None,
    };
    let wanted = first.strip_prefix("--type=")?;
    KINDS.into_iter().find(|kind| *kind == wanted)
}

/// Basename of the script that an interpreter runs, `None` when the process is no interpreter running one.
#[must_use]
pub fn script<'a>(exe: Option<&str>, cmdline: &'a [String]) -> Option<&'a str> {
    match Program::of(exe, cmdline) {
        Program::Script(_, path) => Some(basename(path)),
        _ => None,
    }
}

/// Whether `--comm WANTED` means this process: its comm, its program, the word it was called by, the script it
/// runs with or without suffix, its title, or the name killtrace itself gives it.
#[must_use]
pub fn answers_to(subject: &Subject<'_>, wanted: &str) -> bool {
    if wanted.is_empty() {
        return false;
    }
    // Cut to 15 bytes as the kernel cuts: `systemd-timesyncd` has the comm `systemd-timesyn`.
    if subject.comm == Comm::from(wanted) || subject.exe.is_some_and(|exe| basename(exe) == wanted) {
        return true;
    }
    let Some(cmdline) = subject.cmdline else { return false };
    let called = cmdline.first().is_some_and(|argv0| argv0 == wanted || argv0_word(cmdline) == wanted);
    called
        || script(subject.exe, cmdline).is_some_and(|script| script == wanted || stem(script) == wanted)
        || name(subject) == wanted
}

/// Every word but its [`name`] that [`answers_to`] knows a process by.
#[must_use]
pub fn names<'a>(comm: &'a str, exe: Option<&'a str>, cmdline: &'a [String]) -> Vec<&'a str> {
    let mut names = vec![comm];
    names.extend(exe.map(basename));
    if let Some(argv0) = cmdline.first() {
        names.extend([argv0.as_str(), argv0_word(cmdline)]);
    }
    names.extend(script(exe, cmdline).into_iter().flat_map(|script| [script, stem(script)]));
    names.retain(|name| !name.is_empty());
    names
}

/// What runs in a process.
enum Program<'a> {
    /// An interpreter with a script, as the script is written in the arguments.
    Script(Interpreter, &'a str),
    /// An interpreter whose script gave it a title: the first word of it.
    Titled(&'a str),
    /// An interpreter without a script: a shell, `node -e`.
    Interpreter,
    Other,
}

impl<'a> Program<'a> {
    fn of(exe: Option<&str>, cmdline: &'a [String]) -> Self {
        let Some(argv0) = cmdline.first() else {
            return match exe.and_then(|exe| Interpreter::from_basename(basename(exe))) {
                Some(_) => Self::Interpreter,
                None => Self::Other,
            };
        };
        let exe = exe.unwrap_or_else(|| argv0.trim_start_matches('-'));
        if basename(exe) == "busybox" {
            return Self::of_busybox(cmdline);
        }
        let Some(interpreter) = Interpreter::from_basename(basename(exe)) else { return Self::Other };
        if cmdline.len() > 1 || argv0 == exe {
            return Self::run(interpreter, cmdline.iter().skip(1).map(String::as_str).collect());
        }
        // One string: a title, which may be the arguments joined, or just the interpreter without arguments.
        let word = argv0_word(cmdline);
        if Interpreter::from_basename(word.trim_start_matches('-')).is_some() {
            return Self::run(interpreter, argv0.split_whitespace().skip(1).collect());
        }
        // The interpreter alone, in a directory with a space in its name.
        if Interpreter::from_basename(basename(argv0)).is_some() {
            return Self::Interpreter;
        }
        Self::Titled(word)
    }

    /// The applet's name is the first argument, or the one after `busybox`.
    fn of_busybox(cmdline: &'a [String]) -> Self {
        let mut args = cmdline.iter().map(String::as_str);
        let applet = args.find(|arg| basename(arg) != "busybox").unwrap_or_default();
        match Interpreter::from_basename(basename(applet.trim_start_matches('-'))) {
            Some(interpreter) => Self::run(interpreter, args.collect()),
            None => Self::Other,
        }
    }

    fn run(interpreter: Interpreter, args: Vec<&'a str>) -> Self {
        interpreter
            .script(&args)
            .map_or(Self::Interpreter, |script| Self::Script(interpreter, package(script)))
    }
}

/// The word a process was called by: of a title the first one, without the colon of `sshd: kali@pts/0`.
fn argv0_word(cmdline: &[String]) -> &str {
    let Some(argv0) = cmdline.first() else { return "" };
    let word = match cmdline.len() {
        1 => argv0.split_whitespace().next().unwrap_or_default(),
        // A path with spaces in it is still one path.
        _ => argv0,
    };
    basename(word.trim_start_matches('-')).trim_end_matches(':')
}

/// A binary's name in full, where the comm is only its first 15 bytes or the name of its main thread.
fn binary_name(subject: &Subject<'_>) -> String {
    /// What Node and others call their main thread.
    const THREAD_NAMES: [&[u8]; 2] = [b"MainThread", b"node-MainThread"];
    let comm = subject.comm;
    match subject.exe.map(basename) {
        Some(exe) if comm.is_empty() || comm == Comm::from(exe) || THREAD_NAMES.contains(&comm.bytes()) => {
            exe.to_owned()
        }
        _ => comm.to_text(),
    }
}

/// The name of a script without the suffix nobody says. Where that leaves a word that says nothing (`index`,
/// `cli`), it is the package's name, or else the file's full name.
fn javascript_name(path: &str) -> String {
    const SUFFIXES: [&str; 8] = [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"];
    const SAY_NOTHING: [&str; 9] = ["index", "main", "server", "app", "cli", "bin", "start", "run", "dev"];
    let file = basename(path);
    let stem = SUFFIXES.iter().find_map(|suffix| file.strip_suffix(suffix)).unwrap_or(file);
    match stem {
        "npm-cli" | "npx-cli" => stem.trim_end_matches("-cli").to_owned(),
        _ if SAY_NOTHING.contains(&stem) => node_package(path).unwrap_or(file).to_owned(),
        "" => file.to_owned(),
        _ => stem.to_owned(),
    }
}

/// The innermost package of a path through node_modules: `tsx`, `@angular/cli`.
fn node_package(path: &str) -> Option<&str> {
    let (_, inside) = path.rsplit_once("node_modules/")?;
    let depth = if inside.starts_with('@') { 2 } else { 1 };
    let (end, _) = inside.match_indices('/').nth(depth - 1)?;
    Some(&inside[..end]).filter(|package| !package.starts_with('.'))
}

/// `npm:vite@5` is vite, for deno and bun.
fn package(script: &str) -> &str {
    let Some(package) = script.strip_prefix("npm:").or_else(|| script.strip_prefix("jsr:")) else {
        return script;
    };
    match package.rfind('@') {
        Some(at) if at > 0 => &package[..at],
        _ => package,
    }
}

/// A script without a suffix that says only which language it is in.
fn stem(script: &str) -> &str {
    const SUFFIXES: [&str; 19] = [
        "js", "mjs", "cjs", "ts", "mts", "cts", "jsx", "tsx", "py", "pyc", "pl", "rb", "sh", "bash", "zsh",
        "fish", "php", "lua", "jar",
    ];
    match script.rsplit_once('.') {
        Some((stem, suffix)) if !stem.is_empty() && SUFFIXES.contains(&suffix) => stem,
        _ => script,
    }
}

/// The last part of a path; a word that is no path is its own.
#[must_use]
pub fn basename(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    static NO_PORTS: BTreeSet<u16> = BTreeSet::new();

    struct Case {
        comm: &'static str,
        exe: Option<&'static str>,
        cmdline: Vec<String>,
    }

    impl Case {
        fn subject(&self) -> Subject<'_> {
            Subject {
                tgid: 1,
                comm: Comm::from(self.comm),
                exe: self.exe,
                cmdline: Some(&self.cmdline),
                uid: None,
                cgroups: None,
                listening: &NO_PORTS,
            }
        }
    }

    fn case(comm: &'static str, exe: &'static str, cmdline: &[&str]) -> Case {
        let exe = Some(exe).filter(|exe| !exe.is_empty());
        Case { comm, exe, cmdline: cmdline.iter().map(|&arg| arg.to_owned()).collect() }
    }

    #[test]
    fn processes_are_called_what_people_call_them() {
        for (case, expected) in [
            (case("node", "/usr/bin/node", &["node", "/app/node_modules/.bin/vite"]), "vite"),
            (case("MainThread", "/usr/bin/node", &["node", "node_modules/vite/bin/vite.js"]), "vite"),
            (case("node", "/usr/bin/node", &["node", "/app/node_modules/tsx/dist/cli.mjs", "a.ts"]), "tsx"),
            (
                case("node", "/usr/bin/node", &["node", "/x/node_modules/@angular/cli/bin/index.js"]),
                "@angular/cli",
            ),
            (case("node", "/usr/bin/node", &["node", "/app/server.js"]), "server.js"),
            (case("node", "/usr/bin/node", &["node", "/app/worker.js"]), "worker"),
            (
                case("node", "/usr/bin/node", &["node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "run"]),
                "npm",
            ),
            (case("npm run dev", "/usr/bin/node", &["npm run dev"]), "npm"),
            (case("node", "/usr/bin/node", &["node /app/node_modules/.bin/vite"]), "vite"),
            (case("vite", "/usr/bin/node", &["vite"]), "vite"),
            (case("next-server (v1", "/usr/bin/node", &["next-server (v14.1.0)"]), "next-server"),
            (case("node", "/usr/bin/node", &["node"]), "node"),
            (case("node-MainThread", "/usr/bin/node", &["node", "-e", "1"]), "node"),
            (case("deno", "/usr/bin/deno", &["deno", "run", "-A", "npm:vite@5.1.0", "--port"]), "vite"),
            (case("sh", "/usr/bin/dash", &["sh", "-c", "vite --port 3"]), "sh"),
            (case("bash", "/usr/bin/bash", &["-bash"]), "bash"),
            (case("keepalive-dev.s", "/usr/bin/bash", &["bash", "./keepalive-dev.sh"]), "keepalive-dev.sh"),
            (case("gunicorn", "/usr/bin/python3.11", &["gunicorn: worker [app]"]), "gunicorn"),
            (case("python3", "/usr/bin/python3.11", &["python3", "-m", "http.server"]), "http.server"),
            (case("python3", "/usr/bin/python3.11", &["/my dir/python3"]), "python3"),
            (case("sh", "/bin/busybox", &["sh", "/etc/init.d/rcS"]), "rcS"),
            (case("busybox", "/bin/busybox", &["busybox", "sh", "run.sh"]), "run.sh"),
            (case("httpd", "/bin/busybox", &["httpd", "-f"]), "httpd"),
            (case("systemd-timesyn", "/usr/lib/systemd/systemd-timesyncd", &["x"]), "systemd-timesyncd"),
            (case("earlyoom", "/usr/bin/earlyoom", &["/usr/bin/earlyoom", "-r", "3600"]), "earlyoom"),
            (
                case(
                    "chrome",
                    "/opt/google/chrome/chrome",
                    &["/opt/google/chrome/chrome --type=renderer --x"],
                ),
                "chrome renderer",
            ),
            (
                case("chromium", "/usr/lib/chromium/chromium", &["chromium", "--type=zygote"]),
                "chromium zygote",
            ),
            (case("chromium", "/usr/lib/chromium/chromium", &["chromium", "--kiosk"]), "chromium"),
            (case("make", "/usr/bin/make", &["make", "--type=release"]), "make"),
            (case("kworker/0:1", "", &[]), "kworker/0:1"),
            (case("node", "", &["node", "/app/node_modules/.bin/vite"]), "vite"),
            (case("node", "/usr/bin/node", &[]), "node"),
        ] {
            assert_eq!(name(&case.subject()), expected, "{:?}", case.cmdline);
            assert!(answers_to(&case.subject(), expected), "{expected} cannot be selected");
        }
    }

    #[test]
    fn a_name_selects_by_comm_program_word_and_script() {
        let vite = case(
            "MainThread",
            "/usr/bin/node",
            &["node", "/app/node_modules/vite/bin/vite.js", "--port", "1"],
        );
        for wanted in ["vite", "vite.js", "node", "MainThread"] {
            assert!(answers_to(&vite.subject(), wanted), "{wanted}");
        }
        for wanted in ["", "bin", "vit", "port", "/usr/bin/nod", "js"] {
            assert!(!answers_to(&vite.subject(), wanted), "{wanted}");
        }
        let keepalive = case("bash", "/usr/bin/bash", &["/bin/bash", "./keepalive.sh"]);
        assert!(
            answers_to(&keepalive.subject(), "keepalive") && answers_to(&keepalive.subject(), "keepalive.sh")
        );
        let npm = case("npm run dev", "/usr/bin/node", &["npm run dev"]);
        assert!(answers_to(&npm.subject(), "npm") && answers_to(&npm.subject(), "npm run dev"));
        assert!(!answers_to(&npm.subject(), "dev"));
        let long = case("systemd-timesyn", "", &[]);
        assert!(answers_to(&long.subject(), "systemd-timesyncd"));
    }

    #[test]
    fn a_shell_that_starts_something_is_not_that_something() {
        let shell = case("sh", "/usr/bin/dash", &["sh", "-c", "vite"]);
        assert!(!answers_to(&shell.subject(), "vite"));
        let editor = case("vim", "/usr/bin/vim", &["vim", "vite"]);
        assert!(!answers_to(&editor.subject(), "vite"));
        let title = case("chrome", "/opt/chrome", &["/opt/chrome --dir=/home/vite"]);
        assert!(!answers_to(&title.subject(), "vite"));
    }

    #[test]
    fn suffixes_of_scripts_may_be_left_out() {
        assert_eq!(stem("vite.mjs"), "vite");
        assert_eq!(stem("app.config"), "app.config");
        assert_eq!(stem(".js"), ".js");
        assert_eq!(
            script(Some("/usr/bin/node"), &["node".to_owned(), "/a/vite.js".to_owned()]),
            Some("vite.js")
        );
        assert_eq!(script(Some("/usr/bin/vim"), &["vim".to_owned(), "a.js".to_owned()]), None);
    }

    #[test]
    fn packages_are_found_in_paths_and_specifiers() {
        assert_eq!(node_package("/a/node_modules/x/node_modules/tsx/dist/cli.mjs"), Some("tsx"));
        assert_eq!(node_package("/a/node_modules/.bin/index.js"), None);
        assert_eq!(node_package("/a/index.js"), None);
        assert_eq!(package("npm:@scope/pkg@1.2"), "@scope/pkg");
        assert_eq!(package("npm:@scope/pkg"), "@scope/pkg");
        assert_eq!(package("/a/npm:b"), "/a/npm:b");
    }

    proptest::proptest! {
        #[test]
        fn every_process_can_be_selected_by_its_name(
            exe in proptest::option::of("(/[a-z ]{1,5}){0,2}/(node|bun|deno|bash|python3|java|busybox|x y)"),
            cmdline in proptest::collection::vec("(-{0,2}[a-z]{0,3}|[ -~]{0,9}|sh|npm:@a/b@1|\\PC{0,5})", 0..5),
            comm in "[a-zA-Z :]{1,15}",
        ) {
            let listening = BTreeSet::new();
            let subject = Subject {
                tgid: 1,
                comm: Comm::from(comm.as_str()),
                exe: exe.as_deref(),
                cmdline: Some(&cmdline),
                uid: None,
                cgroups: None,
                listening: &listening,
            };
            let name = name(&subject);
            proptest::prop_assert!(answers_to(&subject, &name), "{:?}", name);
        }
    }
}
