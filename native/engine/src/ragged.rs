//! Lengths that differ from row to row: which axis of a model they are, and a proof at load that rows may be padded to
//! the longest of their batch, as far as experiments can tell. Rows of several lengths and kinds run alone, at exactly
//! their lengths, and together, padded; cut back, the answers must be the same within the tolerance.
//!
//! Masks are inputs that hide positions. Those called so are believed if the proof holds with them hiding the padding;
//! any other input is one if the padding does harm where it shows, and none whatever it holds where it hides.

mod candidate;
mod ladder;
mod padding;
mod rows;

use std::sync::Arc;
use std::time::Instant;

use servekit_core::{Datatype, Mask, Ragged};

use candidate::Candidate;
use ladder::{LENGTH_FIRST, Ladder, Member, Reach, Stop};
pub(crate) use padding::{Pad, Padding};
use rows::{Rows, Shade, element, is_float};

use crate::probe::Subject;
use crate::session::Session;
use crate::signature::{Port, Signature};
use crate::trial::Trial;

/// Whether lengths are mixed.
pub(crate) struct Verdict {
    /// How, where they are.
    pub(crate) ragged: Option<Arc<Ragged>>,
    /// In words; `None` for a model without an axis of a free length.
    pub(crate) why: Option<String>,
}

/// Whether the model declares an axis whose lengths could be mixed.
pub(crate) fn is_conceivable(signature: &Signature) -> bool {
    matches!(Candidate::of(signature), Ok(Some(_)))
}

/// Finds the axis and proves that its lengths may be mixed, or finds out why not; the lanes of the graph pad from then
/// on. For models whose rows share runs. Ends at about this time with what is proved by then.
pub(crate) fn prove(subject: &Subject<'_>, session: &Arc<Session>, until: Instant) -> Verdict {
    let exact = |why: String| Verdict { ragged: None, why: Some(format!("exact lengths only: {why}")) };
    let candidate = match Candidate::of(&subject.graph.signature) {
        Ok(None) => return Verdict { ragged: None, why: None },
        Ok(Some(candidate)) => candidate,
        Err(why) => return exact(why),
    };
    match Proof::search(subject, session, &candidate, until) {
        Err(stop) => exact(stop.text()),
        Ok(proof) => {
            let ports = &subject.graph.signature.inputs;
            // Set once for each graph, and each graph is proved once.
            let _ = subject.graph.padding.set(proof.roles.padding(ports, &candidate.axes));
            let why = proof.text(ports, &candidate);
            Verdict { ragged: Some(Arc::new(proof.ragged(ports, candidate))), why: Some(why) }
        }
    }
}

/// What an input is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Anything; padded with ones instead of zeros if so.
    Content { pads_one: bool },
    /// Hides a position by a one, or by a zero.
    Mask { hides_by_one: bool },
}

/// What the inputs are taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Roles(Vec<Role>);

impl Roles {
    /// By names and datatypes. A truth value that is no mask has no value that a mask has not.
    fn named(ports: &[Port], axes: &[Option<usize>], hides_by_one: bool) -> Self {
        let role = |(port, axis): (&Port, &Option<usize>)| match axis {
            Some(_) if is_called(port, &["mask", "masks"]) || port.spec.datatype == Datatype::Bool => {
                Role::Mask { hides_by_one }
            }
            _ => Role::Content { pads_one: false },
        };
        Self(ports.iter().zip(axes).map(role).collect())
    }

    /// Whether this input is a mask; then whether it hides by a one.
    fn hides(&self, index: usize) -> Option<bool> {
        match self.0.get(index) {
            Some(Role::Mask { hides_by_one }) => Some(*hides_by_one),
            _ => None,
        }
    }

    fn masks(&self) -> impl Iterator<Item = (usize, bool)> {
        (0..self.0.len()).filter_map(|index| Some((index, self.hides(index)?)))
    }

    /// The same, with other values behind the rows' own in inputs of whole numbers that name things. What tells kinds
    /// or places is always padded with zeros.
    fn padding_ones(&self, ports: &[Port], axes: &[Option<usize>]) -> Self {
        let role = |(index, role): (usize, &Role)| match role {
            Role::Content { .. } if axes[index].is_some() && names_things(&ports[index]) => {
                Role::Content { pads_one: true }
            }
            role => *role,
        };
        Self(self.0.iter().enumerate().map(role).collect())
    }

    /// The same, with this input as a mask.
    fn with_mask(&self, input: usize) -> Self {
        let mut roles = self.clone();
        roles.0[input] = Role::Mask { hides_by_one: false };
        roles
    }

    fn padding(&self, ports: &[Port], axes: &[Option<usize>]) -> Padding {
        let is_one = |role| matches!(role, Role::Content { pads_one: true } | Role::Mask { hides_by_one: true });
        self.padding_by(ports, axes, is_one)
    }

    /// A padding that masks do not hide.
    fn shown_padding(&self, ports: &[Port], axes: &[Option<usize>]) -> Padding {
        let is_one = |role| matches!(role, Role::Content { pads_one: true } | Role::Mask { hides_by_one: false });
        self.padding_by(ports, axes, is_one)
    }

    fn padding_by(&self, ports: &[Port], axes: &[Option<usize>], is_one: impl Fn(Role) -> bool) -> Padding {
        let pad = |((role, port), axis): ((&Role, &Port), &Option<usize>)| {
            axis.map(|axis| Pad { axis, element: element(port.spec.datatype, is_one(*role)) })
        };
        self.0.iter().zip(ports).zip(axes).map(pad).collect()
    }
}

/// Whether one of the words of its name is one of these.
fn is_called(port: &Port, wanted: &[&str]) -> bool {
    let name = port.spec.name.to_lowercase();
    name.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| wanted.contains(&word))
}

fn names_things(port: &Port) -> bool {
    let others = ["type", "segment", "segments", "position", "positions", "pos"];
    !is_float(port.spec.datatype) && !is_called(port, &others)
}

/// What was proved.
struct Proof {
    roles: Roles,
    reach: Reach,
    outputs: Box<[Option<usize>]>,
    difference: f64,
    /// Whether the masks are what hides the padding; `None` where that was not tried.
    masks_hide: Option<bool>,
    /// Whether the padding may as well hold other values.
    any_value: bool,
    /// Whether rows that hide all of themselves must not be mixed.
    must_show: bool,
}

impl Proof {
    /// Tries what the inputs might be, the likeliest first, until one holds. If none does, tells why the first does not.
    fn search(
        subject: &Subject<'_>,
        session: &Arc<Session>,
        candidate: &Candidate,
        until: Instant,
    ) -> Result<Self, Stop> {
        let (ports, axes) = (&subject.graph.signature.inputs[..], &candidate.axes[..]);
        let values = subject.values();
        let first = Roles::named(ports, axes, false);
        let rows = Rows {
            values: &values,
            ports,
            axes,
            takes_negatives: vec![false; ports.len()],
            bytes_max: subject.batch_bytes_max / 6,
        };
        let mut ladder = Ladder::new(subject, session, rows, &first, until)?;
        let mut refuted = match Self::attempt(&mut ladder, &first) {
            Err(stop @ (Stop::Differs(_) | Stop::Fails(_))) => Err(stop),
            decided => return decided,
        };
        let has_masks = first.masks().next().is_some();
        let mut others = vec![first.padding_ones(ports, axes)];
        if has_masks {
            others.push(Roles::named(ports, axes, true));
        }
        others.retain(|roles| *roles != first);
        for roles in others {
            match Self::attempt(&mut ladder, &roles) {
                Err(Stop::Differs(_) | Stop::Fails(_)) => {}
                decided => return decided,
            }
        }
        let shared: Vec<usize> = (0..axes.len()).filter(|&input| axes[input].is_some()).collect();
        let unnamed = if has_masks || shared.len() < 2 { &[][..] } else { &shared };
        for &input in unnamed {
            match Self::attempt(&mut ladder, &first.with_mask(input)) {
                // Not called a mask, so it must be one beyond doubt.
                Ok(proof) if proof.masks_hide == Some(true) && proof.any_value => return Ok(proof),
                Ok(_) | Err(Stop::Differs(_) | Stop::Fails(_)) => {}
                stopped => refuted = stopped,
            }
        }
        refuted
    }

    fn attempt(ladder: &mut Ladder<'_>, roles: &Roles) -> Result<Self, Stop> {
        let (ports, axes) = (ladder.rows.ports, ladder.rows.axes);
        ladder.difference = 0.0;
        let mut padded = ladder.padded(&roles.padding(ports, axes))?;
        let reach = ladder.climb(&mut padded, roles)?;
        let length = reach.length_max.min(LENGTH_FIRST);
        let has_masks = roles.masks().next().is_some();
        let mut proof = Self {
            roles: roles.clone(),
            outputs: ladder.outputs.clone(),
            difference: ladder.difference,
            masks_hide: None,
            any_value: false,
            must_show: has_masks,
            reach,
        };
        // What follows needs no more time than the first step did; without it, less is taken for granted.
        if has_masks {
            let shown = ladder.padded(&roles.shown_padding(ports, axes))?;
            proof.masks_hide = holds(ladder, shown, roles, length).map(|is_same| !is_same);
            proof.must_show = !Self::may_hide(ladder, &mut padded, roles, length);
        }
        let ones = roles.padding_ones(ports, axes);
        if ones != *roles {
            let other = ladder.padded(&ones.padding(ports, axes))?;
            proof.any_value = holds(ladder, other, roles, length) == Some(true);
        }
        Ok(proof)
    }

    /// Whether rows that hide all of themselves are answered the same with padding.
    fn may_hide(ladder: &mut Ladder<'_>, padded: &mut Trial, roles: &Roles, length: usize) -> bool {
        let member = |length: usize, shade: Shade, is_hidden: bool| {
            let rows = &ladder.rows;
            let inputs = if is_hidden { rows.hidden(length, shade, roles) } else { rows.row(length, shade, roles) }?;
            Some(Member { length, inputs, is_large: false })
        };
        let members: Option<Vec<Member>> = [
            member(1, Shade::Usual, true),
            member(length, Shade::Usual, false),
            member(length / 2, Shade::Above, true),
            member(length - 1, Shade::Ones, true),
        ]
        .into_iter()
        .collect();
        members.is_some_and(|members| ladder.compare(padded, &members).is_ok())
    }

    fn ragged(self, ports: &[Port], candidate: Candidate) -> Ragged {
        let mask = |(input, hides_by_one): (usize, bool)| {
            let datatype = ports[input].spec.datatype;
            let size = datatype.element_bytes().unwrap_or(1);
            Mask { input, hides: element(datatype, hides_by_one)[..size].into() }
        };
        let masks = if self.must_show { self.roles.masks().map(mask).collect() } else { Box::default() };
        let length_max = self.reach.length_max as u64;
        Ragged { inputs: candidate.axes, outputs: self.outputs, length_max, masks }
    }

    fn text(&self, ports: &[Port], candidate: &Candidate) -> String {
        let names: Vec<String> = self.roles.masks().map(|(input, _)| format!("'{}'", ports[input].spec.name)).collect();
        let value = |is_one: bool| if is_one { "ones" } else { "zeros" };
        let is_content_one = self.roles.0.contains(&Role::Content { pads_one: true });
        let hides_by_one = self.roles.masks().any(|(_, hides_by_one)| hides_by_one);
        let harmless = match (names.is_empty(), self.masks_hide) {
            (true, _) => "it changes no answer".to_owned(),
            (false, Some(false)) => format!("it changes no answer, whatever {} says", names.join(" and ")),
            (false, Some(true)) => format!("{} hides it by {}", names.join(" and "), value(hides_by_one)),
            (false, None) => format!("it changes no answer where {} is {}", names.join(" and "), value(hides_by_one)),
        };
        let any = if self.any_value { ", whatever its ids" } else { "" };
        let axis = if candidate.symbol.is_empty() { String::new() } else { format!(" of axis '{}'", candidate.symbol) };
        let shown = if self.must_show { "rows that hide all of themselves and " } else { "" };
        let apart = match self.difference {
            0.0 => "bit for bit".to_owned(),
            share => format!("within {share:.1e} of the largest value"),
        };
        format!(
            "1 to {}{axis} are mixed, padded with {} to the longest of a batch: {harmless}{any}; made-up rows of many \
             lengths answer the same padded and alone, {apart}; {shown}longer ones share runs by exact length: {}",
            self.reach.length_max,
            value(is_content_one),
            self.reach.why
        )
    }
}

/// Whether short rows are answered the same on this lane; `None` where time is up.
fn holds(ladder: &mut Ladder<'_>, mut lane: Trial, roles: &Roles, length: usize) -> Option<bool> {
    match ladder.prove(&mut lane, roles, length) {
        Ok(()) => Some(true),
        Err(Stop::Differs(_) | Stop::Fails(_)) => Some(false),
        Err(Stop::Memory(_) | Stop::Time) => None,
    }
}
