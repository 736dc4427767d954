//! `lookup`: the number of a category out of its text.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use servekit_core::{Datatype, Refusal, quoted};

use crate::model_file::ModelFile;
use crate::options::{Options, nearest};
use crate::stage::{inputs, text, unusable};
use crate::{Buffers, Port, Stage, StageLimits, View};

/// Categories of one stage; a feature with more of them is a text.
const CATEGORIES_MAX: usize = 1 << 20;
/// Of all categories together, wherever they are listed.
const CATEGORIES_BYTES_MAX: usize = 1 << 24;
/// Categories that a text which is none of them is compared with: a row that is refused must not cost more than one
/// that is answered.
const COMPARED_MAX: usize = 64;

/// Options: `categories` lists them, or `file` names a file in the model's folder with one a line; their places, from
/// 0, are what the model knows them by. A text that is none of them is `unknown`; without that, its row is refused.
pub(crate) struct Lookup {
    numbers: HashMap<Arc<str>, i64>,
    /// The same texts by the alphabet, where those that begin alike are neighbours.
    sorted: Vec<Arc<str>>,
    unknown: Option<i64>,
    text_bytes_max: u64,
    inputs: [Port; 1],
    outputs: [Port; 1],
}

impl Lookup {
    pub(crate) fn new(options: &Value, folder: &Path, limits: StageLimits) -> Result<Self, String> {
        let options = Options::read("lookup", &["categories", "file", "unknown"], options)?;
        let unknown = options.integer("unknown", i64::from(i32::MIN)..=i64::from(i32::MAX))?;
        let numbers = match (options.texts("categories")?, options.text("file")?) {
            (Some(listed), None) => numbered(&options, &listed)?,
            (None, Some(name)) => {
                let file = ModelFile::named(&options, name, folder)?.without_links()?;
                let content = file.text(CATEGORIES_BYTES_MAX as u64, "a category a line")?;
                numbered(&options, &lines(&options, &content)?)?
            }
            (listed, _) => {
                let found = if listed.is_some() { "both" } else { "neither" };
                let text =
                    format!("options 'categories' and 'file': {found} found, one of the two is needed; give one");
                return Err(options.wrong(&text));
            }
        };
        let mut sorted: Vec<Arc<str>> = numbers.keys().cloned().collect();
        sorted.sort_unstable();
        Ok(Self {
            numbers,
            sorted,
            unknown,
            text_bytes_max: limits.text_bytes_max,
            inputs: [Port::new("text", Datatype::Bytes, vec![])],
            outputs: [Port::new("category", Datatype::Int64, vec![1.into()])],
        })
    }

    fn refused(&self, found: &str) -> Refusal {
        let count = self.sorted.len();
        let place = self.sorted.partition_point(|category| category.as_ref() < found);
        let first = place.saturating_sub(COMPARED_MAX / 2).min(count.saturating_sub(COMPARED_MAX));
        let alike: Vec<&str> = self.sorted[first..].iter().take(COMPARED_MAX).map(AsRef::as_ref).collect();
        unusable(format!(
            "'text' is '{}', one of {count} categories is allowed; did you mean '{}'?",
            quoted(found.as_bytes()),
            quoted(nearest(found, &alike).as_bytes())
        ))
    }
}

impl Stage for Lookup {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal> {
        let [tensor] = inputs::<1>("lookup", row)?;
        let found = text(&self.inputs[0], tensor, self.text_bytes_max)?;
        let number = self.numbers.get(found).copied().or(self.unknown).ok_or_else(|| self.refused(found))?;
        let [output] = buffers.outputs_mut::<1>();
        output.shaped(Datatype::Int64, &[1], size_of::<i64>()).copy_from_slice(&number.to_le_bytes());
        Ok(())
    }
}

/// The places of categories, from 0.
fn numbered(options: &Options<'_>, categories: &[&str]) -> Result<HashMap<Arc<str>, i64>, String> {
    let (count, bytes) = (categories.len(), categories.iter().map(|category| category.len()).sum::<usize>());
    if count == 0 || count > CATEGORIES_MAX {
        let text = format!("{count} categories found, 1 to {CATEGORIES_MAX} are allowed; list those the model knows");
        return Err(options.wrong(&text));
    }
    if bytes > CATEGORIES_BYTES_MAX {
        let text = format!(
            "categories have {bytes} bytes together, at most {CATEGORIES_BYTES_MAX} are allowed; list fewer or \
             shorter ones"
        );
        return Err(options.wrong(&text));
    }
    let mut numbers = HashMap::with_capacity(count);
    for (number, category) in categories.iter().enumerate() {
        if let Some(earlier) = numbers.insert(Arc::from(*category), number as i64) {
            return Err(options.wrong(&format!(
                "category {number} is '{}' as category {earlier} is, different ones are allowed; remove one",
                quoted(category.as_bytes())
            )));
        }
    }
    Ok(numbers)
}

/// One category a line, however lines end.
fn lines<'a>(options: &Options<'_>, content: &'a str) -> Result<Vec<&'a str>, String> {
    // Some editors mark UTF-8 so; it belongs to no category.
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let categories: Vec<&str> = content.lines().take(CATEGORIES_MAX + 1).collect();
    if let Some(index) = categories.iter().position(|category| category.is_empty()) {
        let text = format!("line {} of the file is empty, a category a line is allowed; remove it", index + 1);
        return Err(options.wrong(&text));
    }
    Ok(categories)
}
