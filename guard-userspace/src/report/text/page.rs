//! Lines of a fixed width: wrapping, indents, labels. Everything that goes in is escaped here, so that nothing
//! hostile can come out.

use super::super::{Style, escape};

/// Where a field's text starts: the indent and the label.
const LABEL_COLUMNS: usize = 12;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Text being laid out.
#[derive(Debug)]
pub(crate) struct Page {
    out: String,
    style: Style,
    /// Columns that everything is moved to the right by.
    indent: usize,
}

impl Page {
    pub(crate) fn new(style: Style) -> Self {
        Self { out: String::new(), style, indent: 0 }
    }

    /// Moves what follows to the right by this much instead of the last such amount.
    pub(crate) fn set_indent(&mut self, columns: usize) {
        self.indent = columns;
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// The answer: bold on a terminal.
    pub(crate) fn headline(&mut self, lead: &str, text: &str) {
        let text = escape::text(text);
        let lines = wrap(&text, self.columns(lead.chars().count()));
        self.push_lines(lead, &lines, lead.chars().count(), Some(BOLD));
    }

    pub(crate) fn paragraph(&mut self, text: &str) {
        self.hanging("", text);
    }

    /// A paragraph after a bullet or a number, under which further lines do not go.
    pub(crate) fn hanging(&mut self, lead: &str, text: &str) {
        let text = escape::text(text);
        let lines = wrap(&text, self.columns(lead.chars().count()));
        self.push_lines(lead, &lines, lead.chars().count(), None);
    }

    /// A labelled line; an empty label continues the field before.
    pub(crate) fn field(&mut self, label: &str, text: &str) {
        self.columned(label, "", text);
    }

    /// A labelled line whose text has a column of its own on the left, for times.
    pub(crate) fn columned(&mut self, label: &str, column: &str, text: &str) {
        let text = escape::text(text);
        let hang = LABEL_COLUMNS + column.chars().count();
        let lines = wrap(&text, self.columns(hang));
        let padding = LABEL_COLUMNS.saturating_sub(label.chars().count());
        let mut lead = String::new();
        if self.style.color && !label.is_empty() {
            lead.push_str(DIM);
            lead.push_str(label);
            lead.push_str(PLAIN);
        } else {
            lead.push_str(label);
        }
        lead.extend(std::iter::repeat_n(' ', padding));
        lead.push_str(column);
        self.push_lines(&lead, &lines, hang, None);
    }

    fn columns(&self, used: usize) -> usize {
        // On a very narrow terminal, still a few words a line.
        self.style.width.saturating_sub(self.indent + used).max(20)
    }

    fn push_lines(&mut self, lead: &str, lines: &[&str], hang: usize, emphasis: Option<&str>) {
        let emphasis = emphasis.filter(|_| self.style.color);
        for (index, line) in lines.iter().enumerate() {
            self.out.extend(std::iter::repeat_n(' ', self.indent));
            if index == 0 {
                self.out.push_str(lead);
            } else {
                self.out.extend(std::iter::repeat_n(' ', hang));
            }
            if let Some(emphasis) = emphasis {
                self.out.push_str(emphasis);
            }
            self.out.push_str(line);
            if emphasis.is_some() {
                self.out.push_str(PLAIN);
            }
            while self.out.ends_with(' ') {
                self.out.pop();
            }
            self.out.push('\n');
        }
    }
}

/// Breaks at spaces. What is longer than the line stays whole, on a line of its own, so that it can be copied.
fn wrap(text: &str, columns: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    // Byte offsets into `text`: where the line starts, and where the last of it that fits ends.
    let (mut start, mut end, mut length) = (0, 0, 0);
    let mut at = 0;
    while at <= text.len() {
        let piece = piece(&text[at..]);
        let piece_length = piece.chars().count();
        if length != 0 && length + 1 + piece_length > columns {
            lines.push(&text[start..end]);
            start = at;
            length = piece_length;
        } else {
            length += piece_length + usize::from(at != start);
        }
        end = at + piece.len();
        at = end + 1;
    }
    lines.push(&text[start..end]);
    lines
}

/// The words at the start of a text that belong on one line: one word, `pid 4010)`, `14 ms`.
fn piece(text: &str) -> &str {
    let mut words = text.split(' ');
    let Some(mut last) = words.next() else { return text };
    let mut end = last.len();
    for word in words {
        if !belong_together(last, word) {
            break;
        }
        end += 1 + word.len();
        last = word;
    }
    &text[..end]
}

fn belong_together(word: &str, next: &str) -> bool {
    const NUMBERED: [&str; 4] = ["pid", "uid", "code", "status"];
    const UNITS: [&str; 13] =
        ["ns", "µs", "ms", "s", "min", "h", "d", "bytes", "KiB", "MiB", "GiB", "TiB", "UTC"];
    let numbered =
        NUMBERED.contains(&word.trim_start_matches('(')) && next.starts_with(|c: char| c.is_ascii_digit());
    let unit = next.trim_end_matches(['.', ',', ';', ':', ')']);
    numbered || word.ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(wrap("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("exactly ten", 11), ["exactly ten"]);
        assert_eq!(wrap("", 9), [""]);
    }

    #[test]
    fn a_long_word_stays_whole() {
        assert_eq!(wrap("a /very/long/path b", 6), ["a", "/very/long/path", "b"]);
    }

    #[test]
    fn a_number_stays_with_what_it_counts() {
        assert_eq!(wrap("killed (pid 40), 14 ms ago", 11), ["killed", "(pid 40),", "14 ms ago"]);
        assert_eq!(wrap("a limit of 512 MiB.", 14), ["a limit of", "512 MiB."]);
        assert_eq!(wrap("pid of 7", 6), ["pid of", "7"]);
    }

    #[test]
    fn spaces_inside_a_line_stay() {
        assert_eq!(wrap("sh -c 'a  b'", 40), ["sh -c 'a  b'"]);
    }

    #[test]
    fn width_counts_characters_not_bytes() {
        assert_eq!(wrap("größe größe", 11), ["größe größe"]);
    }

    #[test]
    fn labels_and_columns_hang() {
        let mut page = Page::new(Style { color: false, width: 40 });
        page.field("Killer", "pkill, by way of a script that runs");
        page.columned("Chain", "+1 ms  ", "it was told to stop now");
        page.field("", "more");
        let expected = concat!(
            "Killer      pkill, by way of a script\n",
            "            that runs\n",
            "Chain       +1 ms  it was told to stop\n",
            "                   now\n",
            "            more\n"
        );
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn colour_adds_no_columns() {
        let layout = |style| {
            let mut page = Page::new(style);
            page.headline("1. ", "a headline that is long enough to need two lines");
            page.field("Label", "words and words and words and words");
            page.finish()
        };
        let plain = layout(Style { color: false, width: 30 });
        let coloured = layout(Style { color: true, width: 30 });
        assert_ne!(plain, coloured);
        let stripped = coloured.replace(BOLD, "").replace(DIM, "").replace(PLAIN, "");
        assert_eq!(stripped, plain);
    }
}
