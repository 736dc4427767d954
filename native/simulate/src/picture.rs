//! Goodput over load, drawn as SVG.

use std::fmt::Write;

use crate::contest::{Contender, each};
use crate::scenario::{Kind, Scenario, Size};
use crate::tables::Order;
use crate::{Fluid, Rule, Setting};
use servekit_core::Mode;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
/// The plot within: left, top, right, bottom.
const PLOT: [f64; 4] = [64.0, 48.0, 500.0, 380.0];
const LOAD_MAX: f64 = 2.0;
/// Goodput as a multiple of the capacity.
const GOODPUT_MAX: f64 = 1.2;

/// Colours from Okabe and Ito's palette, which people who see fewer colours tell apart; dashes tell the lines apart
/// where there is none. Legible on white and on black.
const LINES: [(Contender, &str, &str); 6] = [
    (Contender::Simple(Rule::Greedy), "#d55e00", "2 3"),
    (Contender::Simple(Rule::Deadline), "#cc79a7", "7 3"),
    (Contender::Simple(Rule::Delay(1.0 / 3.0)), "#e69f00", "1 3"),
    (Contender::Simple(Rule::Timeout), "#009e73", "10 3 2 3"),
    (Contender::Slackline(Setting { mode: Mode::FailFast, ..LATE }), "#56b4e9", "4 2"),
    (Contender::Slackline(LATE), "#0072f0", ""),
];
const LATE: Setting = Setting::of(Mode::Late);

/// Goodput of the order's first model over loads up to twice its capacity, one line a policy.
#[must_use]
pub fn picture(order: &Order) -> String {
    const STEPS: u32 = 20;
    let model = &order.models[0];
    let loads: Vec<f64> = (1..=STEPS).map(|step| LOAD_MAX * f64::from(step) / f64::from(STEPS)).collect();
    let size = Size { requests_min: order.requests_min, targets_min: 40.0 };
    let scenarios: Vec<Scenario> = loads
        .iter()
        .map(|&load| Scenario::single(model, order.lanes, (Kind::Poisson, load), size, order.seed))
        .collect();
    let pairs: Vec<_> =
        LINES.iter().flat_map(|line| scenarios.iter().map(move |scenario| (line.0, scenario))).collect();
    let goodputs = each(&pairs, |(contender, scenario)| contender.trial(scenario).figures(scenario).goodput);
    let fluid = Fluid::of(model, order.lanes);
    let bound: Vec<f64> = loads.iter().map(|load| fluid.goodput_share(load * fluid.capacity())).collect();
    let mut drawing = frame(&format!(
        "Model {}: capacity {:.0} rows/s, target {} ms, Poisson arrivals",
        model.name,
        fluid.capacity(),
        1e3 * model.target_s
    ));
    line(&mut drawing, (&loads, &bound), 0, ("bound of the fluid model", "currentColor", "1 0"));
    for (place, (row, (contender, colour, dashes))) in (1..).zip(goodputs.chunks(loads.len()).zip(LINES)) {
        let name = contender.policy(&scenarios[0]).name().replace("**", "");
        line(&mut drawing, (&loads, row), place, (&name, colour, dashes));
    }
    drawing.push_str("</svg>\n");
    drawing
}

/// Axes, grid and title; what is drawn over them follows.
fn frame(title: &str) -> String {
    let [left, top, right, bottom] = PLOT;
    let mut drawing = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n<title>Goodput over load. {}</title>\n\
         <style>svg {{ color: #24292f; }} @media (prefers-color-scheme: dark) {{ svg {{ color: #d0d7de; }} }} \
         text {{ fill: currentColor; }}</style>\n",
        escaped(title)
    );
    text(&mut drawing, (left, top - 24.0), "start", title);
    for step in 0..=6_u32 {
        let goodput = f64::from(step) * 0.2;
        let y = y_of(goodput);
        rule(&mut drawing, (left, y), (right, y));
        text(&mut drawing, (left - 8.0, y + 4.0), "end", &format!("{goodput:.1}"));
    }
    for step in 0..=8_u32 {
        let load = f64::from(step) * 0.25;
        let x = x_of(load);
        rule(&mut drawing, (x, top), (x, bottom));
        text(&mut drawing, (x, bottom + 18.0), "middle", &format!("{load}"));
    }
    text(&mut drawing, (f64::midpoint(left, right), bottom + 40.0), "middle", "offered load ÷ capacity");
    let _infallible = writeln!(
        drawing,
        "<text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">answered in time ÷ capacity</text>",
        f64::midpoint(top, bottom)
    );
    drawing
}

/// One policy's line, and its entry in the legend.
fn line(
    drawing: &mut String,
    (loads, shares): (&[f64], &[f64]),
    place: u32,
    (name, colour, dashes): (&str, &str, &str),
) {
    let points: Vec<String> = loads
        .iter()
        .zip(shares)
        .map(|(&load, share)| format!("{:.1},{:.1}", x_of(load), y_of((load * share).min(GOODPUT_MAX))))
        .collect();
    let style = format!(
        "fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\" stroke-dasharray=\"{dashes}\" stroke-linejoin=\"round\"",
        if place == 0 { 1.0 } else { 2.0 }
    );
    let _infallible = writeln!(drawing, "<polyline points=\"{}\" {style}/>", points.join(" "));
    let (x, y) = (PLOT[2] + 16.0, PLOT[1] + 12.0 + 22.0 * f64::from(place));
    let _infallible = writeln!(drawing, "<path d=\"M{x} {y}h28\" {style}/>");
    text(drawing, (x + 36.0, y + 4.0), "start", name);
}

fn rule(drawing: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _infallible = writeln!(
        drawing,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"currentColor\" stroke-opacity=\"0.15\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(drawing: &mut String, (x, y): (f64, f64), anchor: &str, content: &str) {
    let content = escaped(content);
    let _infallible = writeln!(drawing, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
}

fn escaped(content: &str) -> String {
    content.replace('&', "&amp;").replace('<', "&lt;")
}

fn x_of(load: f64) -> f64 {
    PLOT[0] + (PLOT[2] - PLOT[0]) * load / LOAD_MAX
}

fn y_of(goodput: f64) -> f64 {
    PLOT[3] - (PLOT[3] - PLOT[1]) * goodput / GOODPUT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn every_policy_is_drawn_and_named_within_the_picture() {
        let models = vec![Model { name: String::from("<x> & y"), ..Model::accelerator() }];
        let drawing = picture(&Order { seed: 1, requests_min: 200, models, lanes: 1 });
        assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
        assert_eq!(drawing.matches("<polyline ").count(), LINES.len() + 1);
        assert!(drawing.contains("Slackline late") && drawing.contains("bound of the fluid model"));
        assert!(drawing.contains("&lt;x> &amp; y") && !drawing.contains("<x>"));
    }
}
