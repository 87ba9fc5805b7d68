//! Tables of measurements, for people and for programs.

use serde_json::{Map, Value, json};
use std::fmt::{self, Write};

/// Bytes of a mebibyte, as a divisor.
const MIB: f64 = 1024.0 * 1024.0;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; between two middle ones, their mean.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// How many there are.
    pub rounds: usize,
}

impl Spread {
    /// Summarises measurements, in any order; without any, everything is NaN.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let rounds = values.len();
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let median = (at(rounds.saturating_sub(1) / 2) + at(rounds / 2)) / 2.0;
        Spread {
            median,
            min: at(0),
            max: at(rounds.saturating_sub(1)),
            rounds,
        }
    }
}

/// One field of a table: what people read, and what programs do.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    text: String,
    value: Value,
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Cell {
        let text = text.into();
        Cell {
            value: Value::String(text.clone()),
            text,
        }
    }

    /// Nothing to say.
    pub fn none() -> Cell {
        Cell {
            text: "–".into(),
            value: Value::Null,
        }
    }

    /// A number, with so many digits behind the point.
    pub fn number(number: f64, digits: usize) -> Cell {
        Cell {
            text: format!("{number:.digits$}"),
            value: json!(number),
        }
    }

    /// Several measurements: the median, and between which values they lie.
    pub fn spread(spread: Spread, digits: usize) -> Cell {
        let Spread {
            median,
            min,
            max,
            rounds,
        } = spread;
        let text = match rounds {
            0 | 1 => format!("{median:.digits$}"),
            _ => format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
        };
        Cell {
            text,
            value: json!({ "median": median, "min": min, "max": max, "rounds": rounds }),
        }
    }

    /// Bytes, as MiB: people see whole ones.
    pub fn mib(bytes: u64) -> Cell {
        Cell::number(bytes as f64 / MIB, 0)
    }
}

/// A table with a heading and remarks.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

impl Table {
    /// A table without rows. The columns are keys in JSON, too.
    pub fn new(title: impl Into<String>, columns: &[&'static str]) -> Table {
        Table {
            title: title.into(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not as many fields as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has a field for each column"
        );
        self.rows.push(cells);
    }

    /// Adds a remark below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Returns the table for programs: each row an object.
    pub fn to_json(&self) -> Value {
        let row = |cells: &Vec<Cell>| {
            let fields = self.columns.iter().zip(cells);
            fields
                .map(|(column, cell)| ((*column).to_owned(), cell.value.clone()))
                .collect::<Map<_, _>>()
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes })
    }
}

impl fmt::Display for Table {
    /// Writes it for people, as Markdown whose columns stand in line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading: Vec<&str> = self.columns.clone();
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| cell.text.as_str()).collect());
        let lines: Vec<Vec<&str>> = std::iter::once(heading).chain(rows).collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        writeln!(f, "{}\n", self.title)?;
        for (index, line) in lines.iter().enumerate() {
            let mut text = String::new();
            for (field, width) in line.iter().zip(&widths) {
                write!(text, "| {field:width$} ")?;
            }
            writeln!(f, "{text}|")?;
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                writeln!(f, "|{}|", rule.join("|"))?;
            }
        }
        self.notes.iter().try_for_each(|note| write!(f, "\n{note}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0,
                rounds: 3
            }
        );
        assert_eq!(
            Spread::of([4.0, 1.0]),
            Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0,
                rounds: 2
            }
        );
        assert_eq!(
            Spread::of([4.0]),
            Spread {
                median: 4.0,
                min: 4.0,
                max: 4.0,
                rounds: 1
            }
        );
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn a_table_reads_well_and_parses() {
        let mut table = Table::new("Speed", &["what", "GiB/s", "RSS, MiB"]);
        table.row([
            Cell::text("fetch"),
            Cell::spread(Spread::of([0.5, 0.7]), 2),
            Cell::mib(33 << 20),
        ]);
        table.row([Cell::text("b3sum"), Cell::number(2.0, 1), Cell::none()]);
        table.note("Warm.");
        let shown = "Speed\n\n\
            | what  | GiB/s            | RSS, MiB |\n\
            |-------|------------------|----------|\n\
            | fetch | 0.60 (0.50–0.70) | 33       |\n\
            | b3sum | 2.0              | –        |\n\nWarm.\n";
        assert_eq!(table.to_string(), shown);
        assert_eq!(table.to_json()["rows"][0]["RSS, MiB"], json!(33.0));
        assert_eq!(table.to_json()["rows"][0]["GiB/s"]["rounds"], json!(2));
        assert_eq!(table.to_json()["rows"][1]["RSS, MiB"], Value::Null);
    }
}
