use super::*;

fn problem(plan: &str) -> String {
    layout_in(plan, Path::new("/")).err().unwrap_or_else(|| panic!("it is taken: {plan}"))
}

#[test]
fn a_plan_of_another_version_is_not_read() {
    let plan = plan_of_sums().replace(r#""version": 2"#, r#""version": 1, "new": []"#);
    assert!(problem(&plan).starts_with("its plan is of version 1, 2 is allowed"));
    for text in ["", "{", "[]", "{}", r#"{"version": -1}"#, r#"{"version": 2}"#, r#"{"version": 2e99}"#] {
        assert!(problem(text).starts_with("its plan cannot be read"), "{text}");
    }
}

#[test]
fn a_plan_that_makes_no_sense_is_refused_with_its_step() {
    let plan = plan_of_sums();
    let table = [
        (r#""slots": 3"#, r#""slots": 4"#, "4 slots for 3 values"),
        (r#""slots": 3"#, r#""slots": 2"#, "slot 2 of 2 does not exist"),
        (r#""slots": 3"#, r#""slots": -3"#, "cannot be read"),
        (r#""inputs": [1, 0]"#, r#""inputs": [2, 0]"#, "before step 2 (two): value 2 does not exist by then"),
        (r#""inputs": [1, 0]"#, r#""inputs": [99, 0]"#, "before step 2 (two): value 99 does not exist by then"),
        (r#""inputs": [1, 0]"#, r#""inputs": [1]"#, "kernel 'two': 1 values in and 1 out, it has 2 and 1"),
        (r#""outputs": [2]"#, r#""outputs": [1]"#, "before step 2 (two): value 1 ('y') is made twice"),
        (r#""outputs": [2]"#, r#""outputs": [0]"#, "before step 2 (two): value 0 ('x') is made twice"),
        (r#""outputs": [2]"#, r#""outputs": [18446744073709551615]"#, "of 3 does not exist"),
        (r#"{"name": "x", "value": 0}], "stages""#, r#"{"name": "y", "value": 1}], "stages""#, "not made where"),
        (r#""z", "value": 2"#, r#""z", "value": 3"#, "outputs: value 3 does not exist"),
        (r#""dtype": "float32", "shape": ["n"]"#, r#""dtype": "float31", "shape": ["n"]"#, "'float31' is unknown"),
        (r#""dtype": "float32", "shape": ["n"]"#, r#""dtype": "bytes", "shape": ["n"]"#, "'x' is BYTES [n] a row"),
        (r#""dtype": "float32", "shape": ["n"]"#, r#""dtype": "float32", "shape": []"#, "'x' is FP32 [] a row"),
        (r#""dtype": "float32", "shape": ["n"]"#, r#""dtype": "float32", "shape": [-1]"#, "an axis is -1"),
        (r#""dtype": "float32", "shape": ["n"]"#, r#""dtype": "float32", "shape": ["n ^ 2"]"#, "is wrong at '^ 2'"),
        (r#""shape": ["rows", "n"]"#, r#""shape": ["n", "rows"]"#, "with rows in front are allowed"),
        (r#""shape": ["rows", "n"]"#, r#""shape": ["rows", 1, 1, 1, 1, 1, 1, 1, 1]"#, "up to 8 axes"),
        (r#""messages": []"#, r#""messages": [], "new": 1"#, "cannot be read"),
    ];
    for (from, to, expected) in table {
        assert!(plan.contains(from), "{from}");
        let text = problem(&plan.replacen(from, to, 1));
        assert!(text.contains(expected), "{to}: {text}");
    }
    let address = format!(r#""address": {}"#, address(add));
    assert!(problem(&plan.replacen(&address, r#""address": 0"#, 1)).contains("an address are needed"));
}

#[test]
fn a_plan_without_work_is_refused() {
    let plan = plan_of_one(picky, "[]");
    let (start, rest) = plan.split_once(r#""batch": ["#).expect("it has a batch");
    let (_, end) = rest.rsplit_once(r#""outputs": [{"#).expect("it has outputs");
    let idle =
        format!(r#"{start}"batch": [], "outputs": [{{{end}"#).replace(r#""y", "value": 1"#, r#""y", "value": 0"#);
    assert!(problem(&idle).starts_with("inputs, batch and outputs"), "{idle}");
}

#[test]
fn a_model_that_is_not_served_is_named() {
    let plan = plan_of_one(picky, "[]");
    let (start, rest) = plan.split_once(r#""batch": ["#).expect("it has a batch");
    let (_, end) = rest.rsplit_once(r#""outputs": [{"#).expect("it has outputs");
    let call = r#"{"step": "model (m)", "model": "m", "inputs": [], "outputs": []}"#;
    let plan = format!(r#"{start}"batch": [{call}], "outputs": [{{{end}"#);
    assert!(problem(&plan).starts_with("model (m): model 'm' is not served"));
}

#[test]
fn clients_see_what_they_send_and_get() {
    let layout = layout(&plan_of_sums());
    assert!(layout.queues_as_sent());
    let sent = sent(&layout);
    assert_eq!((sent.model.as_ref(), sent.is_batched()), ("m", true));
    assert_eq!(contract::run(&layout, &[]), sent);
    assert_eq!(sent.inputs[0].metadata_shape(), [-1, -1]);
    let names: Vec<&str> = sent.outputs.iter().map(|spec| spec.name.as_ref()).collect();
    assert_eq!(names, ["z", "y", "x"]);
    let steps: Vec<_> = layout.steps().map(|(name, place)| (name.to_owned(), place)).collect();
    let steps: Vec<(String, &str)> =
        numbered(&steps).iter().map(|step| (step.name.to_string(), step.place.name())).collect();
    assert_eq!(steps, [("two".to_owned(), "batch"), ("two 2".to_owned(), "batch")]);
}
