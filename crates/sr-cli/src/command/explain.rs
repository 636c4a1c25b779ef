//! `explain`: a page about an error code, a line about a combination rule.

use crate::failure::Done;
use crate::terminal::{self, clean};
use sr_common::Code;
use sr_policy::rules;

pub fn explain(code: Option<&str>) -> Done {
    let Some(asked) = code else {
        terminal::out(&list());
        return Ok(0);
    };
    if let Some(code) = Code::parse(asked) {
        terminal::out(page(code));
        return Ok(0);
    }
    if let Some(rule) = rules::all().iter().find(|r| r.id.eq_ignore_ascii_case(asked)) {
        terminal::out(&format!(
            "{}\n\n{}\n\nWhat breaks it is SR-POL-003: safe-run explain SR-POL-003\n",
            rule.id, rule.description
        ));
        return Ok(0);
    }
    terminal::err(&format!(
        "there is no code or rule {}; these are:\n\n{}",
        clean(asked),
        list().trim_end()
    ));
    Ok(2)
}

/// The page of a code; its first line is a summary.
const fn page(code: Code) -> &'static str {
    match code {
        Code::Pol001 => include_str!("../explain/sr-pol-001.md"),
        Code::Pol002 => include_str!("../explain/sr-pol-002.md"),
        Code::Pol003 => include_str!("../explain/sr-pol-003.md"),
        Code::Cmp001 => include_str!("../explain/sr-cmp-001.md"),
        Code::Cmp002 => include_str!("../explain/sr-cmp-002.md"),
        Code::Run001 => include_str!("../explain/sr-run-001.md"),
        Code::Run002 => include_str!("../explain/sr-run-002.md"),
        Code::Run003 => include_str!("../explain/sr-run-003.md"),
        Code::Evd001 => include_str!("../explain/sr-evd-001.md"),
        Code::Evd002 => include_str!("../explain/sr-evd-002.md"),
        Code::Evd003 => include_str!("../explain/sr-evd-003.md"),
    }
}

fn list() -> String {
    let codes = Code::ALL
        .into_iter()
        .map(|code| page(code).lines().next().unwrap_or_default().to_owned());
    let rules = rules::all()
        .into_iter()
        .map(|rule| format!("  {}: {}", rule.id, rule.description));
    let mut lines: Vec<String> = codes.collect();
    lines.push("\nCombination rules (SR-POL-003):".into());
    lines.extend(rules);
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_names_its_code_and_a_remedy() {
        for code in Code::ALL {
            let text = page(code);
            assert!(text.starts_with(&format!("{code}: ")), "{code}");
            assert!(text.contains("Exit status: ") && text.ends_with('\n'), "{code}");
            assert!(text.lines().all(|l| l.len() <= 120), "{code}");
        }
    }
}
