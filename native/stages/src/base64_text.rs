//! `base64`: bytes out of the text that JSON has to send them as.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, DecodeSliceError, Engine, decoded_len_estimate};
use serde_json::Value;
use servekit_core::{Datatype, Refusal, quoted};

use crate::options::Options;
use crate::stage::{element, inputs, unusable};
use crate::{Buffers, Port, Stage, View};

// Writers differ in whether they pad, and the length says the same.
const CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// The option `alphabet` is `standard` (with `+` and `/`, the default) or `url` (with `-` and `_`).
pub(crate) struct Base64Text {
    engine: GeneralPurpose,
    symbols: &'static str,
    inputs: [Port; 1],
    outputs: [Port; 1],
}

impl Base64Text {
    pub(crate) fn new(options: &Value) -> Result<Self, String> {
        let options = Options::read("base64", &["alphabet"], options)?;
        let (engine, symbols) = match options.choice("alphabet", &[("standard", false), ("url", true)])? {
            Some(true) => (URL, "- and _"),
            _ => (STANDARD, "+ and /"),
        };
        let inputs = [Port::new("text", Datatype::Bytes, vec![])];
        Ok(Self { engine, symbols, inputs, outputs: [Port::new("bytes", Datatype::Bytes, vec![])] })
    }

    fn refused(&self, text: &[u8], error: &DecodeError) -> Refusal {
        let symbols = self.symbols;
        let found = match error {
            DecodeError::InvalidByte(index, byte) | DecodeError::InvalidLastSymbol(index, byte) => {
                format!("byte {index} of the base64 text is '{}'", quoted(&[*byte]))
            }
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
                format!("the base64 text of {} bytes is cut off", text.len())
            }
        };
        unusable(format!("{found}, letters, digits, {symbols} in groups of 4 are allowed; encode the bytes again"))
    }
}

impl Stage for Base64Text {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn run_into(&self, row: &[View<'_>], buffers: &mut Buffers) -> Result<(), Refusal> {
        let [tensor] = inputs::<1>("base64", row)?;
        let text = element(&self.inputs[0], tensor)?;
        let [output] = buffers.outputs_mut::<1>();
        const LENGTH_BYTES: usize = 4;
        let bytes = output.shaped(Datatype::Bytes, &[], LENGTH_BYTES + decoded_len_estimate(text.len()));
        let (length, decoded) = bytes.split_at_mut(LENGTH_BYTES);
        let count = match self.engine.decode_slice(text, decoded) {
            Ok(count) => count,
            Err(DecodeSliceError::DecodeError(error)) => return Err(self.refused(text, &error)),
            Err(DecodeSliceError::OutputSliceTooSmall) => return Err(self.refused(text, &DecodeError::InvalidPadding)),
        };
        // Fewer than the bytes of an element, whose own length has 32 bits.
        length.copy_from_slice(&(count as u32).to_le_bytes());
        output.data.truncate(LENGTH_BYTES + count);
        Ok(())
    }
}
