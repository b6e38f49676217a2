//! docs/balancing.svg: two panels over the load, drawn by hand: the mean time to the first token, and what came from caches.

use std::fmt::Write as _;

use tests::fleet::Figures;
use tests::fleet::policy::Policy;

const COLOURS: [&str; 5] = ["#8c8c8c", "#c9a227", "#2b6cb0", "#9f7aea", "#c53030"];
/// A panel's size and its top.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 280.0;
const TOP: f64 = 40.0;

/// A panel: where it begins, and how a value becomes a height from 0 to 1.
struct Panel {
    left: f64,
    most: f64,
    scale: fn(f64) -> f64,
}

impl Panel {
    fn x(&self, load: f64) -> f64 {
        self.left + WIDTH * load / self.most
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - (self.scale)(value).clamp(0.0, 1.0))
    }

    fn frame(&self, out: &mut String, title: &str, ticks: &[(f64, &str)], loads: &[u32]) {
        let mut say = |text: String| out.push_str(&text);
        say(format!("<text x=\"{:.0}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>\n", self.left, TOP - 16.0));
        for (value, label) in ticks {
            let y = self.y(*value);
            let (left, right) = (self.left, self.left + WIDTH);
            say(format!("<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n"));
            say(format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>\n", left - 6.0, y + 4.0));
        }
        for load in loads.iter().filter(|load| **load % 10 == 0 && **load != 90) {
            let x = self.x(f64::from(*load));
            say(format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{load}</text>\n", TOP + HEIGHT + 16.0));
        }
        let x = self.x(80.0);
        let bottom = TOP + HEIGHT;
        say(format!(
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>\n"
        ));
        say(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">load, % of what least connections can bear</text>\n",
            self.left + WIDTH / 2.0,
            bottom + 36.0
        ));
    }

    fn curve(&self, out: &mut String, colour: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(load, value)| format!("{:.1},{:.1}", self.x(load), self.y(value))).collect();
        let _ = writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", points.join(" "));
    }
}

pub(super) fn svg(loads: &[u32], curves: &[(Policy, Vec<Figures>)]) -> String {
    let most = f64::from(loads.last().copied().unwrap_or(100)) * 1.02;
    // From 30 ms to 100 s.
    let times = Panel { left: 70.0, most, scale: |seconds| (seconds / 0.03).log10() / (100.0_f64 / 0.03).log10() };
    let hits = Panel { left: 520.0, most, scale: |share| share };
    let mut out = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 440\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"900\" height=\"440\" fill=\"white\"/>\n",
    );
    let ticks = [
        (0.03, "30 ms"),
        (0.1, "100 ms"),
        (0.3, "300 ms"),
        (1.0, "1 s"),
        (3.0, "3 s"),
        (10.0, "10 s"),
        (30.0, "30 s"),
        (100.0, "100 s"),
    ];
    times.frame(&mut out, "Mean time to the first token", &ticks, loads);
    hits.frame(
        &mut out,
        "Prompt tokens from the cache",
        &[(0.0, "0"), (0.25, "25 %"), (0.5, "50 %"), (0.75, "75 %"), (1.0, "100 %")],
        loads,
    );
    for (index, ((policy, figures), colour)) in curves.iter().zip(COLOURS).enumerate() {
        let at = || loads.iter().map(|load| f64::from(*load));
        times.curve(&mut out, colour, at().zip(figures.iter().map(Figures::mean)));
        hits.curve(&mut out, colour, at().zip(figures.iter().map(|figures| figures.hits)));
        let (x, y) = (70.0 + 270.0 * (index % 3) as f64, 395.0 + 22.0 * (index / 3) as f64);
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"{}\" width=\"18\" height=\"4\" fill=\"{colour}\"/>", y - 6.0);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{y}\">{}</text>", x + 26.0, policy.name());
    }
    out.push_str("</svg>\n");
    out
}
