//! TOML to nodes with positions, by the `toml` crate's own spanned tree.

use crate::node::{Key, Kind, Node, Typed};
use crate::text::{MAX_DEPTH, SourceText, WHOLE};
use sr_common::Fault;
use toml::de::{DeTable, DeValue};

const MAX_DOTS: usize = 500;

pub(crate) fn read(source: &SourceText) -> Result<Node, Fault> {
    // A key of very many dots nests as deep as brackets do, and is not bounded by the library.
    if let Some(at) = deep_key(&source.text) {
        return Err(too_deep(source, at));
    }
    let table = DeTable::parse(&source.text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        let message = e.message().replace('\n', ", ");
        source.fault(
            at,
            WHOLE,
            &format!("not TOML: {message}"),
            "correct the syntax at this place",
        )
    })?;
    let at = table.span().start;
    table_node(source, table.get_ref(), at, 0)
}

fn too_deep(source: &SourceText, at: usize) -> Fault {
    source.fault(
        at,
        WHOLE,
        &format!("nesting deeper than {MAX_DEPTH}"),
        "a policy needs no such depth",
    )
}

/// The offset of a line with so many dots that a key on it could exhaust the stack. Quotes are not looked at: a key
/// may hold them, and no line of a policy comes near.
fn deep_key(text: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.bytes().filter(|b| *b == b'.').count() > MAX_DOTS {
            return Some(at);
        }
        at += line.len();
    }
    None
}

fn table_node(source: &SourceText, table: &DeTable<'_>, at: usize, depth: usize) -> Result<Node, Fault> {
    if depth > MAX_DEPTH {
        return Err(too_deep(source, at));
    }
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let name = Key {
            text: key.get_ref().to_string(),
            at: key.span().start,
            textual: true,
        };
        entries.push((
            name,
            value_node(source, value.get_ref(), value.span().start, depth + 1)?,
        ));
    }
    // The library sorts by name; a person reads from the top.
    entries.sort_by_key(|(key, _)| key.at);
    Ok(Node {
        kind: Kind::Map(entries),
        at,
    })
}

fn value_node(source: &SourceText, value: &DeValue<'_>, at: usize, depth: usize) -> Result<Node, Fault> {
    if depth > MAX_DEPTH {
        return Err(too_deep(source, at));
    }
    let kind = match value {
        DeValue::String(text) => Kind::Text {
            value: text.to_string(),
            quoted: true,
        },
        DeValue::Integer(n) => match i128::from_str_radix(n.as_str(), n.radix()) {
            Ok(value) => Kind::Typed(Typed::Int(value), value.to_string()),
            Err(_) => Kind::Typed(Typed::Float(f64::INFINITY), n.as_str().to_owned()),
        },
        DeValue::Float(n) => Kind::Typed(
            Typed::Float(n.as_str().parse().unwrap_or(f64::NAN)),
            n.as_str().to_owned(),
        ),
        DeValue::Boolean(b) => Kind::Typed(Typed::Bool(*b), b.to_string()),
        DeValue::Datetime(date) => Kind::Typed(Typed::Date, date.to_string()),
        DeValue::Array(items) => Kind::List(
            items
                .iter()
                .map(|item| value_node(source, item.get_ref(), item.span().start, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => return table_node(source, table, at, depth),
    };
    Ok(Node { kind, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<Node, Fault> {
        read(&SourceText {
            name: "p.toml".into(),
            text: text.into(),
        })
    }

    #[test]
    fn tables_become_maps_in_the_order_of_the_text() {
        let node = toml("z = 1\na = 'x'\n[m]\nargs = [1979-05-27, inf, true]\n").unwrap();
        let Kind::Map(entries) = &node.kind else {
            panic!("{node:?}")
        };
        assert_eq!(
            entries.iter().map(|(k, _)| k.text.as_str()).collect::<Vec<_>>(),
            ["z", "a", "m"]
        );
    }

    #[test]
    fn depth_and_duplicates_are_refused() {
        for bad in [
            format!("a = {}", "[".repeat(100_000)),
            format!("a = {}", "{a=".repeat(100_000)),
            format!("{}a = 1", "a.".repeat(50_000)),
            format!("[{}a]", "a.".repeat(50_000)),
            "a = 1\na = 2".into(),
            "a = ".into(),
        ] {
            assert!(toml(&bad).is_err());
        }
    }
}
