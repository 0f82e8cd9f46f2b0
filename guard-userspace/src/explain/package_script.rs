//! `npm run NAME` and its like, out of a command line.

use crate::model::select::basename;

/// A package manager, as far as command lines matter.
struct Manager {
    name: &'static str,
    /// What comes after it is a program, not a command.
    runs_programs: bool,
    /// `pnpm dev` is `pnpm run dev`, unless `dev` is a command of its own; `None` where it must be said.
    own_commands: Option<&'static str>,
    /// Options whose value is the next word.
    valued: &'static [&'static str],
}

/// Extend freely.
const MANAGERS: &[Manager] = &[
    Manager {
        name: "npm",
        runs_programs: false,
        own_commands: None,
        valued: &["--prefix", "-C", "-w", "--workspace", "--loglevel", "--userconfig"],
    },
    Manager {
        name: "npx",
        runs_programs: true,
        own_commands: None,
        valued: &["-p", "--package", "-w", "--workspace"],
    },
    Manager {
        name: "pnpm",
        runs_programs: false,
        own_commands: Some(
            "add install i remove rm uninstall un update up upgrade link ln unlink import rebuild rb prune fetch dedupe \
             patch patch-commit patch-remove audit list ls ll la outdated why licenses publish pack server store root \
             bin setup env config c get set init create deploy doctor help self-update approve-builds cat-file",
        ),
        valued: &["-C", "--dir", "-F", "--filter"],
    },
    Manager { name: "pnpx", runs_programs: true, own_commands: None, valued: &["--package"] },
    Manager {
        name: "yarn",
        runs_programs: false,
        own_commands: Some(
            "add audit autoclean bin cache check config constraints create dedupe explain generate-lock-entry global \
             help import info init install licenses link list login logout node npm outdated owner pack patch \
             patch-commit plugin policies publish rebuild remove search set stage tag team unlink unplug up upgrade \
             upgrade-interactive version versions why workspaces",
        ),
        valued: &["--cwd"],
    },
    Manager {
        name: "bun",
        runs_programs: false,
        own_commands: Some(
            "install i add remove rm update link unlink pm build init create upgrade test repl outdated publish patch \
             audit info why",
        ),
        valued: &["--cwd", "-c", "--config", "-r", "--preload", "--filter", "-F"],
    },
    Manager { name: "bunx", runs_programs: true, own_commands: None, valued: &["-p", "--package"] },
];

/// What runs managers that are scripts.
const INTERPRETERS: &[&str] = &["node", "nodejs", "bun", "sh", "bash", "dash"];

/// `npm run dev`, as its user typed it, without options; `None` for anything else.
pub(super) fn find(args: &[String]) -> Option<String> {
    // npm overwrites its arguments with one string, `npm run dev`; before that it is `node .../npm run dev`.
    let words: Vec<&str> = match args {
        [title] => title.split_whitespace().collect(),
        _ => args.iter().map(String::as_str).collect(),
    };
    let (first, rest) = words.split_first()?;
    let (manager, rest) = match manager(first) {
        // `bun /usr/bin/npm run dev`, and `bun run dev`.
        Some(bun) if bun.name == "bun" => by_interpreter(rest).unwrap_or((bun, rest)),
        Some(manager) => (manager, rest),
        None if INTERPRETERS.contains(&basename(first)) => by_interpreter(rest)?,
        None => return None,
    };
    let mut rest = Words { rest, valued: manager.valued };
    let command = rest.next()?;
    let shown = if manager.runs_programs {
        vec![command]
    } else {
        match command {
            "run" | "run-script" | "exec" | "x" | "dlx" => {
                // `bun run dev.ts` is a file.
                let script = rest.next().filter(|script| manager.name != "bun" || !is_file(script))?;
                vec![command, script]
            }
            "start" | "stop" | "restart" | "test" | "t" if manager.name != "bun" => vec![command],
            "workspace" if manager.name == "yarn" => vec![command, rest.next()?, rest.next()?],
            _ if manager.own_commands?.split(' ').any(|own| own == command) || is_file(command) => {
                return None;
            }
            _ => vec![command],
        }
    };
    Some(format!("{} {}", manager.name, shown.join(" ")))
}

/// The manager whose file an interpreter was given, and what follows it.
fn by_interpreter<'a, 'b>(args: &'b [&'a str]) -> Option<(&'static Manager, &'b [&'a str])> {
    let place = args.iter().position(|arg| !arg.starts_with('-'))?;
    // `corepack pnpm dev`
    let place = place + usize::from(stem(args[place]) == "corepack");
    Some((manager(args.get(place)?)?, &args[place + 1..]))
}

fn manager(word: &str) -> Option<&'static Manager> {
    let stem = stem(word);
    let name = match stem.strip_suffix("-cli").unwrap_or(stem) {
        "yarnpkg" => "yarn",
        // A project's own, `.yarn/releases/yarn-4.1.0.cjs`.
        name if name
            .strip_prefix("yarn-")
            .is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())) =>
        {
            "yarn"
        }
        name => name,
    };
    MANAGERS.iter().find(|manager| manager.name == name)
}

fn stem(word: &str) -> &str {
    let name = basename(word);
    [".js", ".cjs", ".mjs"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

fn is_file(word: &str) -> bool {
    word.contains(['/', '.'])
}

/// Words without options and their values.
struct Words<'a, 'b> {
    rest: &'b [&'a str],
    valued: &'static [&'static str],
}

impl<'a> Iterator for Words<'a, '_> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let (first, rest) = self.rest.split_first()?;
            self.rest = rest;
            if !first.starts_with('-') {
                return Some(first);
            }
            if self.valued.contains(first) {
                self.rest = self.rest.get(1..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn scripts_are_named_as_their_users_typed_them() {
        for (line, expected) in [
            ("npm run kill-dev", Some("npm run kill-dev")),
            ("node /usr/bin/npm run kill-dev", Some("npm run kill-dev")),
            ("node /usr/lib/node_modules/npm/bin/npm-cli.js run dev -- --port 3", Some("npm run dev")),
            ("node --no-warnings /usr/bin/npm --prefix /app run --silent dev", Some("npm run dev")),
            ("npm --workspace web start", Some("npm start")),
            ("npm test", Some("npm test")),
            ("npm exec --yes tsx server.ts", Some("npm exec tsx")),
            ("node /usr/lib/node_modules/npm/bin/npx-cli.js -y vite", Some("npx vite")),
            ("npx --package typescript tsc", Some("npx tsc")),
            ("npm install", None),
            ("npm", None),
            ("pnpm dev", Some("pnpm dev")),
            ("pnpm run dev", Some("pnpm run dev")),
            ("node /usr/lib/node_modules/pnpm/bin/pnpm.cjs --filter web dev", Some("pnpm dev")),
            ("node /usr/lib/node_modules/corepack/dist/pnpm.js -C /app dev", Some("pnpm dev")),
            ("node /usr/bin/corepack pnpm dev", Some("pnpm dev")),
            ("pnpm install --frozen-lockfile", None),
            ("pnpm dlx create-vite", Some("pnpm dlx create-vite")),
            ("node /usr/share/yarn/bin/yarn.js dev", Some("yarn dev")),
            ("node /app/.yarn/releases/yarn-4.1.0.cjs run dev", Some("yarn run dev")),
            ("yarn --cwd /app build", Some("yarn build")),
            ("yarn workspace web dev", Some("yarn workspace web dev")),
            ("yarn", None),
            ("yarnpkg add vite", None),
            ("bun run dev", Some("bun run dev")),
            ("bun --bun run dev", Some("bun run dev")),
            ("bun dev", Some("bun dev")),
            ("bunx vite", Some("bunx vite")),
            ("bun x vite", Some("bun x vite")),
            ("bun run dev.ts", None),
            ("bun ./index.ts", None),
            ("bun test", None),
            ("node /app/node_modules/.bin/vite", None),
            ("vim npm run", None),
            ("sh -c npm_run", None),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(find(&args).as_deref(), expected, "{line}");
            // Its title, once npm has set it.
            if line.starts_with("npm") {
                assert_eq!(find(&[line.to_owned()]).as_deref(), expected, "{line}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_command_line_is_too_strange(
            args in proptest::collection::vec("(-{0,2}[a-z]{0,3}|node|bun|corepack|npm|yarn-4|/a/pnpm.cjs|run|\\PC{0,5})", 0..6),
        ) {
            let _ = find(&args);
        }
    }
}
