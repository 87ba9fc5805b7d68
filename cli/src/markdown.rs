//! The text of a card as a terminal shows it: plain, wrapped, and without anything a terminal would obey.
//!
//! Strangers write cards. HTML is left out, and of a link its address is shown beside its text, so that nobody is led elsewhere than it says.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use crate::output;

/// Characters in a line, at most.
const WIDTH: usize = 100;
/// Deepest list or quotation that is moved in.
const DEPTH_MAX: usize = 8;

/// Renders a Markdown text, without the YAML at its head.
pub(crate) fn render(text: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut page = Page::default();
    for event in Parser::new_ext(text, options) {
        page.take(event);
    }
    page.end_block();
    let mut lines: String = page.out;
    lines.truncate(lines.trim_end().len());
    lines.push('\n');
    lines
}

/// What is rendered so far, and where in the text we are.
#[derive(Default)]
struct Page {
    out: String,
    /// The text of the block that is being read.
    block: String,
    /// For each list that is open its next number; `None`: it has bullets.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// What stands before the first line of the block: `- `, `3. `.
    mark: Option<String>,
    links: Vec<String>,
    /// Inside a block of code.
    code: bool,
    /// Inside HTML that is not shown.
    table: Option<Table>,
}

/// A table that is being read.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Page {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.begin(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => self.block.push_str(&text),
            Event::Text(text) | Event::Code(text) => self.block.push_str(&one_line(&text)),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.block.push_str(&one_line(&text)),
            Event::SoftBreak => self.block.push(' '),
            Event::HardBreak => self.block.push('\n'),
            Event::Rule => {
                self.end_block();
                self.out.push_str(&"-".repeat(WIDTH.min(40)));
                self.out.push_str("\n\n");
            }
            Event::TaskListMarker(done) => self.block.push_str(if done { "[x] " } else { "[ ] " }),
            Event::FootnoteReference(name) => {
                self.block.push_str(&format!("[{}]", one_line(&name)));
            }
            Event::Html(_) | Event::InlineHtml(_) => {}
        }
    }

    fn begin(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::Heading { .. } | Tag::HtmlBlock => self.end_block(),
            Tag::BlockQuote(_) => {
                self.end_block();
                self.quotes += 1;
            }
            Tag::CodeBlock(kind) => {
                self.end_block();
                self.code = true;
                if let CodeBlockKind::Fenced(name) = kind
                    && !name.is_empty()
                {
                    self.line(&format!("{}:", one_line(&name)));
                }
            }
            Tag::List(first) => {
                self.end_block();
                self.lists.push(first);
            }
            Tag::Item => {
                self.end_block();
                self.mark = Some(match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{}. ", number.saturating_sub(1))
                    }
                    Some(None) | None => "- ".to_owned(),
                });
            }
            Tag::Link { dest_url, .. } => self.links.push(one_line(&dest_url)),
            Tag::Image { .. } => self.block.push_str("[image: "),
            Tag::Table(_) => {
                self.end_block();
                self.table = Some(Table::default());
            }
            Tag::TableHead | Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.rows.push(Vec::new());
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let under = match level {
                    HeadingLevel::H1 => Some('='),
                    HeadingLevel::H2 => Some('-'),
                    _ => None,
                };
                let width = self.block.chars().count().min(WIDTH);
                self.line_of_block();
                if let Some(under) = under.filter(|_| width > 0) {
                    self.line(&under.to_string().repeat(width));
                }
                self.gap();
            }
            TagEnd::BlockQuote(_) => {
                self.end_block();
                self.quotes = self.quotes.saturating_sub(1);
            }
            TagEnd::CodeBlock => {
                let code = std::mem::take(&mut self.block);
                self.code = false;
                for line in code.lines() {
                    self.line(&format!("    {}", output::printable(line)));
                }
                self.gap();
            }
            TagEnd::List(_) => {
                self.end_block();
                self.lists.pop();
                if self.lists.is_empty() {
                    self.gap();
                }
            }
            TagEnd::Item => {
                self.end_block();
                self.mark = None;
            }
            TagEnd::Link => {
                let address = self.links.pop().unwrap_or_default();
                // An address that is its own text is not said twice.
                if !address.is_empty() && !address.starts_with('#') && !self.block.ends_with(&address) {
                    self.block.push_str(&format!(" ({address})"));
                }
            }
            TagEnd::Image => self.block.push(']'),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.block);
                if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
                    row.push(one_line(&cell));
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    table.lines().iter().for_each(|line| self.line(line));
                    self.gap();
                }
            }
            TagEnd::Paragraph => self.end_block(),
            _ => {}
        }
    }

    /// What every line of the block begins with.
    fn indent(&self) -> String {
        let items = self.lists.len().saturating_sub(1).min(DEPTH_MAX);
        format!(
            "{}{}",
            "> ".repeat(self.quotes.min(DEPTH_MAX)),
            "  ".repeat(items)
        )
    }

    fn line(&mut self, line: &str) {
        let indent = self.indent();
        self.out.push_str(format!("{indent}{line}").trim_end());
        self.out.push('\n');
    }

    fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Ends the block that is being read, with a blank line behind it unless it is in a list.
    fn end_block(&mut self) {
        if self.table.is_some() || self.code {
            return;
        }
        if !self.block.trim().is_empty() {
            self.line_of_block();
            if self.lists.is_empty() {
                self.gap();
            }
        }
        self.block.clear();
    }

    fn line_of_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        let in_list = !self.lists.is_empty();
        let first = self.mark.take().unwrap_or_else(|| match in_list {
            true => "  ".to_owned(),
            false => String::new(),
        });
        let rest = " ".repeat(first.chars().count());
        let width = WIDTH.saturating_sub(self.indent().len()).max(20);
        for (at, line) in block.trim().lines().enumerate() {
            let first = if at == 0 { &first } else { &rest };
            let options = textwrap::Options::new(width)
                .initial_indent(first)
                .subsequent_indent(&rest);
            for line in textwrap::wrap(line, options) {
                self.line(&line);
            }
        }
    }
}

impl Table {
    /// The table in columns.
    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let lay = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths);
            let cells: String = cells.map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            cells.trim_end().to_owned()
        };
        self.rows.iter().map(lay).collect()
    }
}

/// A text without line breaks and without what a terminal would obey.
fn one_line(text: &str) -> String {
    let plain = text.replace(['\n', '\r', '\t'], " ");
    output::printable(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_lists_code_links_and_tables_read_without_their_marks() {
        let card = "# A *model*\n\nSome `code` and [a link](https://example.org/x), see <https://example.org>.\n\n## Use\n\n- one\n- two\n  1. three\n\n\
                    ```python\nimport os\n```\n\n| task | score |\n|---|---|\n| sts | 81.2 |\n\n> said\n\n![logo](x.png)\n<div align=\"center\">in html</div>\n";
        let wanted = "A model\n=======\n\nSome code and a link (https://example.org/x), see https://example.org.\n\nUse\n---\n\n- one\n- two\n  1. three\n\n\
                      python:\n    import os\n\ntask  score\nsts   81.2\n\n> said\n\n[image: logo]\n";
        let rendered = render(card);
        assert!(rendered.starts_with(wanted), "{rendered}");
    }

    #[test]
    fn long_lines_are_wrapped_and_stand_under_their_mark() {
        let rendered = render(&format!("- {}", "word ".repeat(60)));
        let lines: Vec<_> = rendered.lines().collect();
        assert!(lines.len() == 4, "{rendered}");
        assert!(lines[0].starts_with("- word") && lines[1].starts_with("  word"));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let rendered = render(
            "# a\u{1b}[2Jb\n\ntext \u{9b}31m\u{7}\n\n```\n\u{1b}]0;title\u{7}\n```\n\n[x](http://a/\u{1b}[1m)\n",
        );
        assert!(
            rendered.chars().all(|c| c == '\n' || !c.is_control()),
            "{rendered:?}"
        );
    }

    #[test]
    fn deep_and_strange_texts_end() {
        for text in [
            "> ".repeat(5_000),
            "- ".repeat(5_000),
            "[".repeat(20_000),
            "*a ".repeat(20_000),
        ] {
            assert!(render(&text).len() < 10 * text.len() + 1_000);
        }
        assert_eq!(render(""), "\n");
    }
}
