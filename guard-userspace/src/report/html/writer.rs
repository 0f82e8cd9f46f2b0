//! Markup with two ways in: what is part of this program, and text, which is escaped. Nothing else can be said.

use super::super::{escape, secrets};

/// A document, or a part of it, as it grows.
#[derive(Debug, Default)]
pub(super) struct Html {
    out: String,
}

impl Html {
    /// Markup that was written with the program. Attributes that hold text are always in double quotes, and
    /// text never goes where a browser would look for a script, a style or an address.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.out.push_str(markup);
        self
    }

    /// Text between tags, or in the quotes of an attribute.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        let text = secrets::mask(text);
        for c in escape::text(&text).chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                '`' => self.out.push_str("&#96;"),
                c => self.out.push(c),
            }
        }
        self
    }

    pub(super) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.out.push_str(&number.into().to_string());
        self
    }

    /// A length or a place in a drawing, given in tenths.
    pub(super) fn tenths(&mut self, tenths: u64) -> &mut Self {
        self.number(tenths / 10);
        match tenths % 10 {
            0 => self,
            tenth => self.raw(".").number(tenth),
        }
    }

    /// An element without attributes that holds nothing but text.
    pub(super) fn element(&mut self, open: &'static str, text: &str, close: &'static str) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn text_is_never_markup() {
        for (hostile, safe) in [
            ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("' onload='x", "&#39; onload=&#39;x"),
            ("]]> --> --!> <!--", "]]&gt; --&gt; --!&gt; &lt;!--"),
            ("&lt;", "&amp;lt;"),
            ("a\u{202e}b\x1b[2J\0\n", "a\\u{202e}b\\x1b[2J\\x00\\n"),
        ] {
            assert_eq!(escaped(hostile), safe);
        }
    }

    #[test]
    fn tenths_are_written_as_short_as_they_can_be() {
        let mut html = Html::default();
        html.tenths(1234).raw(" ").tenths(50).raw(" ").tenths(0);
        assert_eq!(html.finish(), "123.4 5 0");
    }

    proptest! {
        #[test]
        fn nothing_that_a_parser_reacts_to_comes_out(text in any::<String>()) {
            let out = escaped(&text);
            prop_assert!(!out.contains(['<', '>', '"', '\'', '`']));
            prop_assert!(!out.contains(char::is_control));
        }
    }
}
