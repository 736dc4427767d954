use super::*;

fn placed(fit: Fit, source: (u32, u32), target: (u32, u32)) -> (u64, u64, i64, i64) {
    let Placement { width, height, left, top } = Placement::new(fit, source, target);
    (width, height, left, top)
}

#[test]
fn a_crop_is_where_torchvision_puts_it() {
    // Resize(256) and CenterCrop(224), worked out in Python with its own rounding: int(256 * long / short), and
    // int(round((side - 224) / 2.0)).
    let fit = Fit::Crop { shortest: Some(256) };
    assert_eq!(placed(fit, (640, 480), (224, 224)), (341, 256, -58, -16));
    assert_eq!(placed(fit, (480, 640), (224, 224)), (256, 341, -16, -58));
    assert_eq!(placed(fit, (640, 427), (224, 224)), (383, 256, -80, -16));
    assert_eq!(placed(fit, (500, 333), (223, 223)), (384, 256, -80, -16));
    assert_eq!(placed(fit, (256, 256), (253, 253)), (256, 256, -2, -2));
    assert_eq!(placed(fit, (256, 256), (255, 255)), (256, 256, 0, 0));
}

#[test]
fn a_letterbox_is_where_detectors_expect_it() {
    assert_eq!(placed(Fit::Letterbox, (1280, 720), (640, 640)), (640, 360, 0, 140));
    assert_eq!(placed(Fit::Letterbox, (810, 1080), (640, 640)), (480, 640, 80, 0));
    // An odd pixel is left over at the right or the bottom.
    assert_eq!(placed(Fit::Letterbox, (640, 427), (640, 640)), (640, 427, 0, 106));
}

#[test]
fn no_side_is_ever_shorter_than_one_pixel_or_than_the_crop() {
    for source in [(1, 1), (1, 70_000), (70_000, 1), (3, 7), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
        for target in [(1, 1), (7, 3), (16_384, 1), (16_384, 16_384)] {
            let inside = Placement::new(Fit::Letterbox, source, target);
            assert!((1..=u64::from(target.0)).contains(&inside.width), "{source:?} in {target:?}: {inside:?}");
            assert!((1..=u64::from(target.1)).contains(&inside.height), "{source:?} in {target:?}: {inside:?}");
            assert!(inside.left >= 0 && inside.top >= 0);
            let longest = target.0.max(target.1);
            for shortest in [None, Some(longest)] {
                let around = Placement::new(Fit::Crop { shortest }, source, target);
                assert!(around.width >= target.0.into(), "{source:?} around {target:?}: {around:?}");
                assert!(around.height >= target.1.into(), "{source:?} around {target:?}: {around:?}");
                assert!(around.left <= 0 && around.top <= 0);
            }
        }
    }
}
