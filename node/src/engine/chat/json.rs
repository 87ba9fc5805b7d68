//! The `tojson` of chat templates: Python's `json.dumps(…, ensure_ascii=False)`, which transformers puts in Jinja2's place. No escapes
//! for HTML, keys in the order that they have, a blank behind each comma and colon.

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

/// Most blanks that a level is indented by.
const INDENT_MAX: usize = 16;
/// Deepest value: no template prints a deeper one on purpose.
const DEPTH_MAX: usize = 64;

/// Writes a value as JSON; `indent` puts each element on a line of its own.
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // The one other option that templates have, and it is what is done here.
    if options.has("ensure_ascii") && options.get("ensure_ascii")? {
        return Err(wrong("tojson cannot do ensure_ascii"));
    }
    options.assert_all_used()?;
    if indent.is_some_and(|indent| indent > INDENT_MAX) {
        return Err(wrong("tojson cannot indent so far"));
    }
    let mut out = String::new();
    write(value, indent, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEPTH_MAX || out.len() > super::RENDERED_LEN_MAX {
        return Err(wrong("a value too deep or too long for tojson"));
    }
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let (open, close) = match value.kind() {
        ValueKind::Map => ('{', '}'),
        ValueKind::Seq | ValueKind::Iterable => ('[', ']'),
        ValueKind::Undefined | ValueKind::Invalid => return Err(wrong("nothing to write as json")),
        _ => {
            let plain = serde_json::to_string(value).map_err(|error| wrong(error.to_string()))?;
            out.push_str(&plain);
            return Ok(());
        }
    };
    out.push(open);
    let mut empty = true;
    for element in value.try_iter()? {
        if !empty {
            out.push_str(if indent.is_some() { "," } else { ", " });
        }
        empty = false;
        line(out, depth + 1);
        if open == '{' {
            let key =
                serde_json::to_string(&element.to_string()).map_err(|error| wrong(error.to_string()))?;
            out.push_str(&key);
            out.push_str(": ");
            write(&value.get_item(&element)?, indent, depth + 1, out)?;
        } else {
            write(&element, indent, depth + 1, out)?;
        }
    }
    if !empty {
        line(out, depth);
    }
    out.push(close);
    Ok(())
}

fn wrong(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}
