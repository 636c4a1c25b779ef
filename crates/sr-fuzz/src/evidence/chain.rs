//! `events.jsonl`: whatever is changed in a chain that held is found at the first line that differs; what is cut off its end
//! leaves a chain that holds up to there and no longer claims to be complete.

use super::sample::{Came, Evidence, samples};
use super::{Change, Difference, line_of, lines, says};
use crate::choices::{Choices, mutate};
use crate::{Judgement, require};
use serde_json::Value;
use sr_common::canonical;
use sr_evidence::files::EVENTS;
use sr_evidence::verify::Status;

pub fn events(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let all = samples();
    let evidence = &all[c.below(all.len())];
    let whole = evidence.file(EVENTS);
    let change = change(whole, &mut c, &rehash);
    if change.bytes() == whole {
        return Ok(());
    }
    judge(evidence, &change).map_err(|why| {
        let text = String::from_utf8_lossy(change.bytes());
        format!("{:?}: {why}\n{text}", evidence.came)
    })
}

/// Something else than `whole`: bytes flipped, lines dropped, doubled, swapped, a field changed; an end cut off.
pub(super) fn change(whole: &[u8], c: &mut Choices<'_>, rehash: &dyn Fn(&mut Value)) -> Change {
    let mut list: Vec<Vec<u8>> = lines(whole).into_iter().map(<[u8]>::to_vec).collect();
    let (one, other) = (c.below(list.len()), c.below(list.len()));
    if list.is_empty() {
        return Change::Bytes(vec![c.byte()]);
    }
    let kind = c.below(9);
    match kind {
        0 => drop(list.remove(one)),
        1 => list.insert(one, list[one].clone()),
        2 => list.swap(one, other),
        3 => list.insert(other, list[one].clone()),
        4 => return Change::Bytes(whole[..c.below(whole.len())].to_vec()),
        5 | 6 => {
            let bytes = list[one].clone();
            if let Ok(mut value) = serde_json::from_slice::<Value>(&bytes) {
                alter(&mut value, c);
                if kind == 6 {
                    rehash(&mut value);
                }
                let mut line = canonical::to_bytes(&value).unwrap_or(bytes);
                line.push(b'\n');
                list[one] = line;
            }
            let bytes = list.concat();
            return if kind == 6 {
                Change::Rehashed(bytes)
            } else {
                Change::Bytes(bytes)
            };
        }
        7 => {
            let mut bytes = whole.to_vec();
            let at = c.below(bytes.len());
            bytes[at] ^= 1 << c.below(8);
            return Change::Bytes(bytes);
        }
        _ => {
            let mut bytes = whole.to_vec();
            mutate(&mut bytes, c);
            return Change::Bytes(bytes);
        }
    }
    Change::Bytes(list.concat())
}

/// Changes one value somewhere in `value`.
pub(super) fn alter(value: &mut Value, c: &mut Choices<'_>) {
    match value {
        Value::Object(members) if !members.is_empty() && c.below(8) != 0 => {
            let at = c.below(members.len());
            if let Some(member) = members.values_mut().nth(at) {
                alter(member, c);
            }
        }
        Value::Object(members) if c.flag() => drop(members.insert("zz".into(), Value::Null)),
        Value::Object(members) => {
            let first = members.keys().next().cloned();
            match first {
                Some(name) => drop(members.remove(&name)),
                None => drop(members.insert("a".into(), 1.into())),
            }
        }
        Value::Array(items) if !items.is_empty() && c.below(3) != 0 => {
            let at = c.below(items.len());
            alter(&mut items[at], c);
        }
        Value::Array(items) if c.flag() && !items.is_empty() => drop(items.pop()),
        Value::Array(items) => items.push(Value::Null),
        Value::String(text) => match (c.below(3), text.pop()) {
            (0, Some('0')) => text.push('1'),
            (0, Some(_)) => text.push('0'),
            (1, Some(last)) => text.extend([last, 'x']),
            (1, None) => text.push('x'),
            _ => {}
        },
        Value::Number(number) => {
            let more = number.as_u64().map_or(0, |n| (n + 1) & 0xffff_ffff);
            *value = if c.below(4) == 0 { Value::Null } else { more.into() };
        }
        Value::Bool(flag) => *flag = !*flag,
        Value::Null => *value = if c.flag() { 0.into() } else { "".into() },
    }
}

/// Gives an event the hash of its content.
fn rehash(event: &mut Value) {
    if let Some(members) = event.as_object_mut() {
        members.remove("hash");
        if let Ok(hash) = canonical::digest(&members) {
            members.insert("hash".into(), hash.to_string().into());
        }
    }
}

fn judge(evidence: &Evidence, change: &Change) -> Judgement {
    let whole = evidence.file(EVENTS);
    let how = Difference::of(whole, change.bytes());
    let v = evidence.verify(Some((EVENTS, change.bytes())));
    let complete = matches!(evidence.came, Came::Ended(_));
    let begun = matches!(evidence.came, Came::Begun(_));
    // What a kill could have left as well: a beginning that holds, and perhaps half a line. No less than was signed.
    if (how.is_prefix || how.open_end) && !complete && how.same >= evidence.signed {
        let holds = (v.status, v.events) == (Status::Incomplete, how.same);
        return require(holds, || format!("{}, {} are whole", says(&v), how.same));
    }
    let total = lines(whole).len() as u64;
    if let Change::Rehashed(_) = change {
        // Nobody can tell the last line of a chain from another one, until its end is signed.
        let unseen = how.same + 1 == total && how.same >= evidence.signed && !complete;
        if unseen && v.status == Status::Incomplete {
            return Ok(());
        }
    }
    require(v.status == Status::Failed, || says(&v))?;
    // A line that chains but is not what was signed has no number: the signature covers them all.
    let last = how.same + 1 >= total || (!begun && how.same < evidence.signed && line_of(&v, EVENTS).is_none());
    let Some(line) = line_of(&v, EVENTS) else {
        let named = v.first_problem.as_ref().is_some_and(|p| p.path == EVENTS);
        let fine = how.is_prefix || how.open_end || (last && matches!(change, Change::Rehashed(_)));
        return require(named && fine, || format!("no line is named: {}", says(&v)));
    };
    let first = how.same + 1;
    let named = line == first || (matches!(change, Change::Rehashed(_)) && line == first + 1);
    require(named && v.events == line - 1, || {
        format!("{}, the first that differs is {first}", says(&v))
    })
}
