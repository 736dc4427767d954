//! `tokenize`: numbers of tokens out of text, as a model's `tokenizer.json` says.

use std::path::Path;

use serde_json::Value;
use servekit_core::{Datatype, Refusal, quoted};
use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use crate::containment::contained;
use crate::model_file::ModelFile;
use crate::options::Options;
use crate::stage::{inputs, text, unusable};
use crate::{Buffer, Buffers, Port, Stage, StageLimits, View};

/// The largest known vocabularies take a third of this.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Tokens in a row, at most.
const LENGTH_MAX: u32 = 1 << 20;

/// Options: `file` (`tokenizer.json`) lies in the model's folder; `pair` (false) takes two texts in a row;
/// `special_tokens` (true) adds those that the model was trained with. `length_max` cuts a row down to so many tokens,
/// special ones included; without it the file's own setting counts. `truncation` is `longest_first` (the default),
/// `only_first` or `only_second` of a pair, `side` is `right` or `left`. Rows are never padded: rows of different
/// lengths meet in a batch, and only there it is known how far to pad.
pub(crate) struct Tokenize {
    tokenizer: Tokenizer,
    special_tokens: bool,
    text_bytes_max: u64,
    inputs: Vec<Port>,
    outputs: [Port; 3],
}

impl Tokenize {
    pub(crate) fn new(options: &Value, folder: &Path, limits: StageLimits) -> Result<Self, String> {
        let keys = ["file", "pair", "special_tokens", "length_max", "truncation", "side"];
        let options = Options::read("tokenize", &keys, options)?;
        let pair = options.flag("pair")?.unwrap_or(false);
        let special_tokens = options.flag("special_tokens")?.unwrap_or(true);
        let mut tokenizer = load(&options, folder)?;
        let truncation = truncation(&options, &tokenizer, pair)?;
        tokenizer
            .with_padding(None)
            .with_truncation(truncation)
            .map_err(|error| options.wrong(&format!("truncation is refused ({error}); correct the file")))?;
        let names: &[&str] = if pair { &["text", "pair"] } else { &["text"] };
        let output = |name| Port::new(name, Datatype::Int64, vec!["length".into()]);
        Ok(Self {
            tokenizer,
            special_tokens,
            text_bytes_max: limits.text_bytes_max,
            inputs: names.iter().map(|name| Port::new(name, Datatype::Bytes, vec![])).collect(),
            outputs: [output("input_ids"), output("attention_mask"), output("token_type_ids")],
        })
    }

    fn encode(&self, row: &[View<'_>]) -> Result<Encoding, Refusal> {
        let encoded = match self.inputs.as_slice() {
            [first_port, second_port] => {
                let [first, second] = inputs::<2>("tokenize", row)?;
                let bytes_max = self.text_bytes_max;
                let texts = (text(first_port, first, bytes_max)?, text(second_port, second, bytes_max)?);
                self.tokenizer.encode_fast(texts, self.special_tokens)
            }
            ports => {
                let [tensor] = inputs::<1>("tokenize", row)?;
                self.tokenizer.encode_fast(text(&ports[0], tensor, self.text_bytes_max)?, self.special_tokens)
            }
        };
        encoded.map_err(|error| {
            let found = quoted(error.to_string().as_bytes());
            unusable(format!("the text cannot be tokenised ({found}), ordinary text is allowed; shorten or change it"))
        })
    }
}

impl Stage for Tokenize {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal> {
        let encoding = contained("text", || self.encode(row))?;
        let [ids, mask, types] = buffers.outputs_mut::<3>();
        fill(ids, encoding.get_ids());
        fill(mask, encoding.get_attention_mask());
        fill(types, encoding.get_type_ids());
        Ok(())
    }
}

fn fill(output: &mut Buffer, numbers: &[u32]) {
    let target = output.shaped(Datatype::Int64, &[numbers.len() as i64], size_of::<i64>() * numbers.len());
    let (target, _) = target.as_chunks_mut();
    target.iter_mut().zip(numbers).for_each(|(target, number)| *target = i64::from(*number).to_le_bytes());
}

fn load(options: &Options<'_>, folder: &Path) -> Result<Tokenizer, String> {
    let name = options.text("file")?.unwrap_or("tokenizer.json");
    let file = ModelFile::named(options, name, folder)?;
    let (shown, json) = (file.shown(), file.text(FILE_BYTES_MAX, "a tokenizer's JSON")?);
    // From a `str`, because that reader is compiled with its crate, and one of bytes would be once more with this one.
    let parsed = contained("tokenizer", || json.parse::<Tokenizer>().map_err(|error| unusable(error.to_string())));
    parsed.map_err(|refusal| {
        let error = &refusal.text;
        options.wrong(&format!("file '{shown}' is no tokenizer ({error}), one in JSON is allowed; export it again"))
    })
}

/// How rows are cut: as the options say, as the file says where they are silent, or not at all. Never with a stride:
/// what is cut off goes nowhere.
fn truncation(options: &Options<'_>, tokenizer: &Tokenizer, pair: bool) -> Result<Option<TruncationParams>, String> {
    let strategies = [
        ("longest_first", TruncationStrategy::LongestFirst),
        ("only_first", TruncationStrategy::OnlyFirst),
        ("only_second", TruncationStrategy::OnlySecond),
    ];
    let sides = [("right", TruncationDirection::Right), ("left", TruncationDirection::Left)];
    let (strategy, side) = (options.choice("truncation", &strategies)?, options.choice("side", &sides)?);
    let own = tokenizer.get_truncation();
    let length_max = options.number("length_max", 1..=LENGTH_MAX)?.map(|length| length as usize);
    let Some(max_length) = length_max.or(own.map(|own| own.max_length)) else {
        if strategy.is_some() || side.is_some() {
            return Err(options.wrong("option 'length_max' is missing, truncation and side need it; add it"));
        }
        return Ok(None);
    };
    let added = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair));
    if max_length <= added {
        let text = format!("length_max is {max_length}, more than the {added} special tokens is allowed; raise it");
        return Err(options.wrong(&text));
    }
    let strategy = strategy.or(own.map(|own| own.strategy)).unwrap_or_default();
    if strategy == TruncationStrategy::OnlySecond && !pair {
        return Err(options.wrong("truncation is 'only_second' without pairs, 'longest_first' is allowed; change it"));
    }
    let direction = side.or(own.map(|own| own.direction)).unwrap_or_default();
    Ok(Some(TruncationParams { direction, max_length, strategy, stride: 0 }))
}
