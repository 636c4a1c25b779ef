//! The chart: how much of the host's kernel each wall leaves within reach, as bars.

use super::page::Page;
use super::{COLUMNS, Wall};
use crate::Outcome;

const WIDTH: u32 = 640;
/// Where bars begin, and the longest of them.
const LEFT: u32 = 110;
const LONGEST: u32 = 460;
const TOP: u32 = 44;
const STEP: u32 = 34;
const BAR: u32 = 22;

pub fn svg(page: &Page) -> Outcome<String> {
    let calls = page.host_calls()?;
    let most = calls.iter().copied().max().unwrap_or(1).max(1);
    let height = (0..)
        .zip(COLUMNS)
        .map(|(n, _)| TOP + (n + 1) * STEP)
        .max()
        .unwrap_or(TOP);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">System calls of the host's kernel that can be reached</text>\n"
    );
    for ((n, (name, column)), calls) in (0..).zip(COLUMNS).zip(calls) {
        let y = TOP + n * STEP;
        let (baseline, width) = (y + 16, LONGEST * calls / most);
        let fill = match column.wall {
            Wall::Control => "#b03a2e",
            wall if wall.is_ours() => "#1f618d",
            _ => "#909497",
        };
        text += &format!(
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"{fill}\"/>\n\
             <text x=\"{}\" y=\"{baseline}\">{calls}</text>\n",
            LEFT - 8,
            LEFT + width + 6
        );
    }
    text += "</svg>\n";
    Ok(text)
}
