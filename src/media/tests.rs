use image::codecs::gif::GifEncoder;
use image::{Frame, Rgb, RgbImage};

use super::*;

/// An image of one colour in a format.
fn plain(format: ImageFormat, width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    written(
        &RgbImage::from_pixel(width, height, Rgb(colour)).into(),
        format,
    )
}

fn written(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The image that a preview holds.
fn shown(preview: &str) -> RgbImage {
    assert!(preview.len() < SIZE_LIMIT, "{} bytes", preview.len());
    let base64 = preview.strip_prefix("data:image/jpeg;base64,").unwrap();
    let jpeg = STANDARD.decode(base64).unwrap();
    image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg)
        .unwrap()
        .to_rgb8()
}

fn assert_colour(image: &RgbImage, expected: [u8; 3]) {
    let pixel = image.get_pixel(image.width() / 2, image.height() / 2);
    let near = pixel.0.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 8);
    assert!(near, "{pixel:?} is not {expected:?}");
}

/// A PNG that says it has these dimensions and holds nothing.
fn hollow_png(width: u32, height: u32) -> Vec<u8> {
    let mut png = plain(ImageFormat::Png, 1, 1, [0; 3]);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let check = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&check.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[test]
fn a_preview_is_a_hundred_pixels_wide() {
    for (kind, format) in [
        (ImageType::Jpg, ImageFormat::Jpeg),
        (ImageType::Png, ImageFormat::Png),
        (ImageType::Gif, ImageFormat::Gif),
    ] {
        let image = plain(format, 1200, 900, [200, 30, 30]);

        let shown = shown(&preview(kind, &image).unwrap());

        assert_eq!(shown.dimensions(), (100, 75), "{kind:?}");
        assert_colour(&shown, [200, 30, 30]);
    }
}

#[test]
fn a_tall_image_is_not_taller_than_twice_the_width() {
    let image = plain(ImageFormat::Png, 100, 1000, [0; 3]);

    let shown = shown(&preview(ImageType::Png, &image).unwrap());

    assert_eq!(shown.dimensions(), (20, 200));
}

#[test]
fn a_tiny_image_stays_as_small_as_it_is() {
    let image = plain(ImageFormat::Gif, 1, 1, [0, 0, 255]);

    let shown = shown(&preview(ImageType::Gif, &image).unwrap());

    assert_eq!(shown.dimensions(), (1, 1));
    assert_colour(&shown, [0, 0, 255]);
}

#[test]
fn a_line_keeps_its_one_pixel() {
    let image = plain(ImageFormat::Png, 10_000, 1, [0; 3]);

    let shown = shown(&preview(ImageType::Png, &image).unwrap());

    assert_eq!(shown.dimensions(), (100, 1));
}

#[test]
fn an_animation_shows_its_first_picture() {
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    for colour in [[0, 160, 0, 255], [255, 0, 0, 255], [0, 0, 255, 255]] {
        let picture = RgbaImage::from_pixel(300, 200, Rgba(colour));
        encoder.encode_frame(Frame::new(picture)).unwrap();
    }
    drop(encoder);

    let shown = shown(&preview(ImageType::Gif, &gif).unwrap());

    assert_colour(&shown, [0, 160, 0]);
}

#[test]
fn what_is_transparent_shows_white() {
    let clear = RgbaImage::from_pixel(10, 10, Rgba([0, 0, 0, 0]));
    let png = written(&clear.into(), ImageFormat::Png);

    let shown = shown(&preview(ImageType::Png, &png).unwrap());

    assert_colour(&shown, [255, 255, 255]);
}

#[test]
fn a_photo_is_turned_the_way_up_that_its_camera_noted() {
    let mut jpeg = plain(ImageFormat::Jpeg, 400, 200, [90; 3]);
    // Orientation 6, a quarter turn, in an Exif segment behind the start of the image.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());

    let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

    assert_eq!(shown.dimensions(), (100, 200));
}

#[test]
fn noise_that_no_quality_makes_small_becomes_a_smaller_picture() {
    let mut state = 1_u32;
    let noise = RgbImage::from_fn(100, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, r, g, b] = state.to_le_bytes();
        Rgb([r, g, b])
    });
    let png = written(&noise.into(), ImageFormat::Png);

    // That it is small enough is checked for every preview.
    shown(&preview(ImageType::Png, &png).unwrap());
}

#[test]
fn an_image_of_too_many_pixels_is_refused_by_its_header() {
    let refused = preview(ImageType::Png, &hollow_png(50_000, 50_000));
    assert!(matches!(refused, Err(Error::Huge { .. })), "{refused:?}");

    let largest = b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\0\x3b";
    let refused = preview(ImageType::Gif, largest);
    assert!(matches!(refused, Err(Error::Huge { .. })), "{refused:?}");
}

#[test]
fn an_image_of_too_many_bytes_is_refused_by_its_header() {
    let mut png = hollow_png(4096, 4096);
    // 16 bits for each of four channels.
    png[24..26].copy_from_slice(&[16, 6]);
    let check = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&check.to_be_bytes());

    let refused = preview(ImageType::Png, &png);

    assert!(matches!(refused, Err(Error::Heavy { .. })), "{refused:?}");
}

#[test]
fn a_broken_image_has_no_preview() {
    let png = plain(ImageFormat::Png, 300, 300, [7; 3]);
    let jpeg = plain(ImageFormat::Jpeg, 300, 300, [7; 3]);
    for (kind, broken) in [
        (ImageType::Png, &png[..png.len() / 2]),
        (ImageType::Png, &png[..8]),
        (ImageType::Jpg, &jpeg[..3]),
        (ImageType::Jpg, &png[..]),
        (ImageType::Gif, b"GIF89a"),
        (ImageType::Gif, &jpeg[..]),
    ] {
        let refused = preview(kind, broken);
        assert!(matches!(refused, Err(Error::Unreadable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn as_many_as_ask_at_once_all_get_theirs() {
    let previews = Previews::default();
    let image = Bytes::from(plain(ImageFormat::Png, 200, 200, [1; 3]));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 * AT_ONCE {
        let (previews, image) = (previews.clone(), image.clone());
        tasks.spawn(async move { previews.make(ImageType::Png, image).await });
    }

    let made = tasks.join_all().await;

    assert!(made.iter().all(Option::is_some));
    let broken = Bytes::from_static(b"GIF89a");
    assert_eq!(previews.make(ImageType::Gif, broken).await, None);
}
