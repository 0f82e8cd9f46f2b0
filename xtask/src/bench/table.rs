//! Tables of figures, as Markdown, and whether each figure meets its bar.

/// One figure.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) value: String,
    pub(super) bar: String,
    pub(super) met: bool,
}

impl Row {
    /// A figure that must not exceed its bar.
    pub(super) fn at_most(what: impl Into<String>, value: f64, bar: f64, unit: &str) -> Self {
        let text = format!("{} {unit}", shown(value));
        Self { what: what.into(), value: text, bar: format!("≤ {bar} {unit}"), met: value <= bar }
    }

    /// A figure that must reach its bar.
    pub(super) fn at_least(what: impl Into<String>, value: f64, bar: f64, unit: &str) -> Self {
        let text = format!("{} {unit}", shown(value));
        Self { what: what.into(), value: text, bar: format!("≥ {bar} {unit}"), met: value >= bar }
    }

    /// A figure for information.
    pub(super) fn shown(what: impl Into<String>, value: f64, unit: &str) -> Self {
        let text = format!("{} {unit}", shown(value));
        Self { what: what.into(), value: text, bar: String::new(), met: true }
    }
}

fn shown(value: f64) -> String {
    if value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Prints figures below each other; returns what misses its bar.
pub(super) fn print_rows(title: &str, rows: &[Row]) -> Vec<String> {
    println!("\n## {title}\n");
    let mut lines = vec![["figure".to_owned(), "measured".to_owned(), "bar".to_owned()].to_vec()];
    for Row { what, value, bar, met } in rows {
        let missed = if *met { "" } else { " MISSED" };
        lines.push(vec![what.clone(), value.clone(), format!("{bar}{missed}")]);
    }
    print(&lines);
    let missed = rows.iter().filter(|row| !row.met);
    missed.map(|row| format!("{}: {}, bar {}", row.what, row.value, row.bar)).collect()
}

/// Prints a table whose first line is its head.
pub(super) fn print(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |line: &[String], column: usize| line.get(column).cloned().unwrap_or_default();
    let width = |column| lines.iter().map(|line| cell(line, column).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let row = |line: &[String]| {
        let cells: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(column, &width)| format!("{:width$}", cell(line, column)))
            .collect();
        println!("| {} |", cells.join(" | "));
    };
    for (number, line) in lines.iter().enumerate() {
        row(line);
        if number == 0 {
            row(&widths.iter().map(|&width| "-".repeat(width.max(3))).collect::<Vec<_>>());
        }
    }
}
