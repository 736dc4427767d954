use super::*;

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../stages/tests/data/");

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{IMAGES}{name}")).expect("a picture")
}

fn stage(number: usize, kind: &str, options: &str, numbers: (&str, &str)) -> String {
    let (inputs, outputs) = numbers;
    format!(
        r#"{{"step": "before step {number} ({kind})", "kind": "{kind}", "options": {options}, "inputs": [{inputs}],
            "outputs": [{outputs}]}}"#
    )
}

/// Stages over these values, of which clients send the first ones; `x` is a number that the kernel takes as it comes.
fn plan_of_stages(values: &[String], sent: &[(&str, usize)], stages: &[String], outputs: &[(&str, usize)]) -> String {
    let named = |some: &[(&str, usize)]| {
        let named = some.iter().map(|(name, value)| format!(r#"{{"name": "{name}", "value": {value}}}"#));
        named.collect::<Vec<_>>().join(", ")
    };
    let (kernel, count) = (kernel_of_one(picky, "[]"), values.len());
    let y = value("y", "float32", "[1]", "batch", "null");
    format!(
        r#"{{"version": 2, "name": "m", "raw": false, "values": [{values}, {y}], "slots": 0,
            "inputs": [{inputs}], "stages": [{stages}],
            "batch": [{{"step": "after step 1 (one)", "kernel": {kernel}, "inputs": [0], "outputs": [{count}]}}],
            "outputs": [{{"name": "y", "value": {count}}}, {outputs}]}}"#,
        values = values.join(", "),
        inputs = named(sent),
        stages = stages.join(", "),
        outputs = named(outputs),
    )
}

/// `photo` is base64 of an image and `colour` a category.
fn plan_of_photos() -> String {
    let values = [
        value("x", "float32", "[1]", "row", "null"),
        value("photo", "string", "[]", "row", "null"),
        value("colour", "string", "[]", "row", "null"),
        value("bytes", "bytes", "[]", "row", "null"),
        value("image", "uint8", r#"["height", "width", 3]"#, "row", "null"),
        value("category", "int64", "[1]", "row", "null"),
    ];
    let stages = [
        stage(1, "base64", "{}", ("1", "3")),
        stage(2, "decode_image", "{}", ("3", "4")),
        stage(3, "lookup", r#"{"categories": ["red", "green"]}"#, ("2", "5")),
    ];
    let sent = [("x", 0), ("photo", 1), ("colour", 2)];
    plan_of_stages(&values, &sent, &stages, &[("image", 4), ("category", 5), ("colour", 2), ("bytes", 3)])
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encoded = bytes.chunks(3).flat_map(|chunk| {
        let bits =
            chunk.iter().enumerate().fold(0_u32, |bits, (index, &byte)| bits | u32::from(byte) << (16 - 8 * index));
        (0..=chunk.len()).map(move |index| LETTERS[(bits >> (18 - 6 * index)) as usize & 63])
    });
    encoded.collect()
}

fn request(rows: &[(f32, &str, &str)]) -> Inputs {
    let count = rows.len() as i64;
    let numbers: Vec<f32> = rows.iter().map(|row| row.0).collect();
    let photos: Vec<Vec<u8>> = rows.iter().map(|row| base64(&picture(row.1))).collect();
    let photos: Vec<&[u8]> = photos.iter().map(Vec::as_slice).collect();
    let colours: Vec<&[u8]> = rows.iter().map(|row| row.2.as_bytes()).collect();
    inputs([fp32(&[count, 1], &numbers), byte_strings(&[count], &photos), byte_strings(&[count], &colours)])
}

fn preparer() -> RowPreparer {
    RowPreparer::new(layout(&plan_of_photos()))
}

#[test]
fn a_request_becomes_what_the_batch_is_gathered_from() {
    let mut preparer = preparer();
    let sent = request(&[(1.0, "colours.png", "green"), (2.0, "colours.png", "red")]);
    let mut steps = vec![Duration::ZERO];
    let prepared = preparer.prepare(&sent, 2, &mut steps).expect("prepared");
    assert_eq!((prepared.len(), steps.len()), (5, 4));
    let given: Vec<&Tensor> = prepared.iter().flatten().collect();
    assert_eq!(given[0].data.as_ptr(), sent[0].as_ref().expect("sent").data.as_ptr(), "it is no copy");
    assert_eq!(given[1].data.as_ptr(), sent[2].as_ref().expect("sent").data.as_ptr(), "it is no copy");
    let file = picture("colours.png");
    assert_eq!(*given[2], byte_strings(&[2], &[&file, &file]));
    let pixels = picture("colours.png.rgb");
    assert_eq!(given[3].shape[0], 2);
    assert_eq!(given[3].shape.iter().product::<i64>() as usize, 2 * pixels.len());
    assert_eq!(given[3].data[..], [pixels.clone(), pixels].concat());
    assert_eq!(given[3].data.as_ptr() as usize % 64, 0);
    let numbers = [1_i64, 0].map(i64::to_le_bytes).concat();
    assert_eq!(*given[4], tensor(Datatype::Int64, &[2, 1], numbers));
}

#[test]
fn prepared_rows_run_with_those_of_others() {
    let layout = layout(&plan_of_photos());
    let mut preparer = RowPreparer::new(Arc::clone(&layout));
    let mut lane = PipelineLane::new(layout, Vec::new(), KERNEL_BYTES_MAX, true);
    let requests = [
        request(&[(1.0, "colours.png", "green")]),
        request(&[(-2.0, "colours.png", "red"), (3.0, "colours.png", "red")]),
    ];
    let prepared: Vec<Inputs> =
        requests.iter().map(|request| preparer.prepare(request, 0, &mut Vec::new()).expect("prepared")).collect();
    let outputs = run(&mut lane, &prepared.iter().collect::<Vec<_>>()).expect("answered");
    assert_eq!(fp32_values(&outputs.outputs[0]), [1.0, 0.0, 3.0]);
    assert_eq!(outputs.refused, [RowFault { row: 1, text: "after step 1 (one): too low".into() }]);
    assert_eq!(outputs.outputs[2].data[..], [1_i64, 0, 0].map(i64::to_le_bytes).concat());
    assert_eq!(outputs.outputs[3], byte_strings(&[3], &[b"green", b"red", b"red"]));
    assert_eq!(outputs.outputs[1].rows(2, 1).data[..], picture("colours.png.rgb"));
}

#[test]
fn a_refused_row_says_which_step_and_which_row() {
    let mut preparer = preparer();
    let mut steps = Vec::new();
    let refusal = preparer.prepare(&request(&[(1.0, "colours.png", "blue")]), 1, &mut steps).unwrap_err();
    assert_eq!((refusal.reason, steps.len()), (Reason::ValueOutOfRange, 3));
    let text = "pipeline of 'm': before step 3 (lookup): 'text' is 'blue', ";
    assert!(refusal.text.starts_with(text), "{}", refusal.text);
    let mut cut = request(&[(1.0, "colours.png", "red"), (1.0, "colours.png", "red")]);
    let whole = base64(&picture("colours.png"));
    cut[1] = Some(byte_strings(&[2], &[&whole, &whole[..40]]));
    steps.clear();
    let refusal = preparer.prepare(&cut, 2, &mut steps).unwrap_err();
    assert_eq!((refusal.reason, steps.len()), (Reason::ValueOutOfRange, 3));
    let text = "pipeline of 'm': before step 2 (decode_image): row 1: the PNG image ";
    assert!(refusal.text.starts_with(text), "{}", refusal.text);
    assert!(preparer.prepare(&request(&[(1.0, "colours.png", "red")]), 1, &mut steps).is_ok());
}

#[test]
fn rows_that_come_out_differently_are_refused_together() {
    let rows = [(1.0, "colours.png", "red"), (1.0, "turned5.png", "red")];
    let refusal = preparer().prepare(&request(&rows), 2, &mut Vec::new()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ShapeMismatch);
    assert!(refusal.text.contains("before step 2 (decode_image): output 'image' is ["), "{}", refusal.text);
    assert!(refusal.text.ends_with("send rows that differ as one request each"), "{}", refusal.text);
}

#[test]
fn no_rows_are_prepared_too() {
    let layout = layout(&plan_of_photos());
    let mut steps = Vec::new();
    let prepared = RowPreparer::new(Arc::clone(&layout)).prepare(&request(&[]), 0, &mut steps).expect("prepared");
    assert_eq!(prepared[3].as_ref().expect("an image").shape.as_slice(), [0, 0, 0, 3]);
    assert_eq!(steps, [Duration::ZERO; 3]);
    let mut lane = PipelineLane::new(layout, Vec::new(), KERNEL_BYTES_MAX, true);
    let outputs = run(&mut lane, &[&prepared]).expect("answered").outputs;
    assert_eq!(outputs[0].shape.as_slice(), [0, 1]);
}

#[test]
fn uneven_rows_are_refused() {
    let mut sent = request(&[(1.0, "colours.png", "red"), (1.0, "colours.png", "red")]);
    sent[2] = Some(byte_strings(&[1], &[b"red"]));
    let refusal = preparer().prepare(&sent, 1, &mut Vec::new()).unwrap_err();
    assert_eq!(refusal.reason, Reason::ShapeMismatch);
    assert!(refusal.text.contains("input 'colour' has 1 rows, 2 as in 'x' are allowed"), "{}", refusal.text);
}

#[test]
fn elements_that_lie_about_their_length_are_refused() {
    let mut preparer = preparer();
    for bytes in [&[][..], &[0xff, 0xff, 0xff, 0xff, 1], &[3, 0, 0]] {
        let mut sent = request(&[(1.0, "colours.png", "red"), (1.0, "colours.png", "red")]);
        sent[2] = Some(tensor(Datatype::Bytes, &[2], bytes.to_vec()));
        let refusal = preparer.prepare(&sent, 2, &mut Vec::new()).unwrap_err();
        assert_eq!(refusal.reason, Reason::ShapeMismatch, "{}", refusal.text);
    }
}

#[test]
fn a_prepared_request_that_waits_is_not_written_over() {
    let mut preparer = preparer();
    let names = ["colours.png", "palette.png", "grey.png", "baseline.jpg", "lossless.webp", "turned.jpg"];
    let waiting: Vec<Inputs> = names
        .iter()
        .map(|name| preparer.prepare(&request(&[(1.0, name, "red")]), 1, &mut Vec::new()).expect("prepared"))
        .collect();
    for (name, prepared) in names.iter().zip(&waiting) {
        let fresh = RowPreparer::new(layout(&plan_of_photos()))
            .prepare(&request(&[(1.0, name, "red")]), 1, &mut Vec::new())
            .expect("prepared");
        assert_eq!(prepared, &fresh, "{name}");
    }
}

#[test]
fn stages_that_are_not_connected_as_they_must_be_are_refused() {
    let plan = plan_of_photos();
    let table = [
        (r#""kind": "lookup""#, r#""kind": "look_up""#, "stage 'look_up' is unknown"),
        (r#""inputs": [3],"#, r#""inputs": [3, 3],"#, "2 values in and 1 out, stage decode_image has 1 and 1"),
        (r#""inputs": [3],"#, r#""inputs": [5],"#, "before step 2 (decode_image): value 5 does not exist by then"),
        (r#""inputs": [3],"#, r#""inputs": [0],"#, "'x' is FP32 [1], the stage's 'bytes' is BYTES of 0 axes"),
        (r#"["height", "width", 3]"#, r#"["height", "width", 4]"#, "'image' is UINT8 [height, width, 4]"),
        (r#"{"categories": ["red", "green"]}"#, r#"{"categories": []}"#, "before step 3 (lookup): stage lookup: "),
    ];
    for (from, to, expected) in table {
        assert!(plan.contains(from), "{from}");
        let text = layout_in(&plan.replacen(from, to, 1), Path::new("/")).err().expect("it is refused");
        assert!(text.contains(expected), "{to}: {text}");
    }
}

#[test]
fn clients_see_what_the_stages_take() {
    let layout = layout(&plan_of_photos());
    assert!(!layout.queues_as_sent());
    let (sent, run) = (sent(&layout), contract::run(&layout, &[]));
    let shown = |contract: &Contract| {
        let shown = contract.inputs.iter().map(|spec| (spec.name.to_string(), spec.datatype, spec.base64));
        shown.collect::<Vec<_>>()
    };
    let named = |name: &str, datatype, base64| (name.to_owned(), datatype, base64);
    let (x, colour) = (named("x", Datatype::Fp32, false), named("colour", Datatype::Bytes, false));
    assert_eq!(shown(&sent), [x.clone(), named("photo", Datatype::Bytes, false), colour.clone()]);
    let made = [named("bytes", Datatype::Bytes, true), named("image", Datatype::Uint8, false)];
    assert_eq!(shown(&run)[..4], [x, colour, made[0].clone(), made[1].clone()]);
    assert_eq!(run.inputs[3].metadata_shape(), [-1, -1, -1, 3]);
}
