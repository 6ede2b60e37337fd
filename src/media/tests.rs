use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::{Frame, GrayImage, ImageFormat, Luma, Rgb, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

#[path = "../../tests/it/support/pictures.rs"]
mod pictures;

use pictures::{Colours, segment};

/// Returns an image of one colour in a format.
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

/// Returns a JPEG with a dark left half and a bright right half. It is cheap to make at any size.
fn halves(width: u16, height: u16, is_progressive: bool, colours: Colours) -> Vec<u8> {
    let brightness: fn(u32, u32) -> u8 = match width {
        5712 => |column, _| if column < 357 { 40 } else { 220 },
        8064 => |column, _| if column < 504 { 40 } else { 220 },
        _ => |_, _| 40,
    };
    let jpeg = pictures::Jpeg {
        width,
        height,
        is_progressive,
        colours,
        restarts: 0,
        brightness,
    };
    jpeg.write()
}

/// Creates the preview of a picture without waiting for a permit.
fn preview(kind: ImageType, content: &[u8]) -> Result<String, Error> {
    Picture::open(kind, content)?.preview()
}

/// Decodes the image in a preview.
fn shown(preview: &str) -> RgbImage {
    assert!(preview.len() < SIZE_LIMIT, "{} bytes", preview.len());
    let base64 = preview.strip_prefix("data:image/jpeg;base64,").unwrap();
    let jpeg = STANDARD.decode(base64).unwrap();
    image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg)
        .unwrap()
        .to_rgb8()
}

#[track_caller]
fn assert_pixel(image: &RgbImage, x: u32, y: u32, expected: [u8; 3]) {
    let pixel = image.get_pixel(x, y);
    let near = pixel.0.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 8);
    assert!(near, "{pixel:?} is not {expected:?}");
}

#[track_caller]
fn assert_colour(image: &RgbImage, expected: [u8; 3]) {
    assert_pixel(image, image.width() / 2, image.height() / 2, expected);
}

/// Returns a PNG whose header has these dimensions, bits per channel and colour type, and which has
/// no pixels.
fn hollow_png(width: u32, height: u32, bits: u8, colour: u8) -> Vec<u8> {
    let mut png = plain(ImageFormat::Png, 1, 1, [0; 3]);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    png[24..26].copy_from_slice(&[bits, colour]);
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

/// Returns a JPEG's header with a frame of this kind, size and sampling factors.
fn jpeg_head(marker: u8, width: u16, height: u16, factors: &[u8]) -> Vec<u8> {
    let mut head = vec![0xff, 0xd8];
    let (height, width) = (height.to_be_bytes(), width.to_be_bytes());
    let count = u8::try_from(factors.len()).unwrap();
    let mut frame = [&[8], &height[..], &width, &[count]].concat();
    for (id, factors) in (1..).zip(factors) {
        frame.extend([id, *factors, 0]);
    }
    segment(&mut head, marker, &frame);
    head
}

/// Opens a picture and returns only the outcome.
fn opened(kind: ImageType, content: &[u8]) -> Result<(), Error> {
    Picture::open(kind, content).map(drop)
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
    for (kind, format) in [
        (ImageType::Jpg, ImageFormat::Jpeg),
        (ImageType::Png, ImageFormat::Png),
        (ImageType::Gif, ImageFormat::Gif),
    ] {
        let image = plain(format, 1, 1, [0, 0, 255]);

        let shown = shown(&preview(kind, &image).unwrap());

        assert_eq!(shown.dimensions(), (1, 1));
        assert_colour(&shown, [0, 0, 255]);
    }
}

#[test]
fn a_picture_one_pixel_high_keeps_its_height() {
    for (kind, format) in [
        (ImageType::Jpg, ImageFormat::Jpeg),
        (ImageType::Png, ImageFormat::Png),
        (ImageType::Gif, ImageFormat::Gif),
    ] {
        let image = plain(format, 10_000, 1, [0; 3]);

        let shown = shown(&preview(kind, &image).unwrap());

        assert_eq!(shown.dimensions(), (100, 1), "{kind:?}");
    }
}

#[test]
fn a_preview_shows_dark_and_bright_areas_correctly() {
    for (width, height, is_progressive, colours) in [
        (5712, 4284, false, Colours::Quarter),
        (5712, 4284, true, Colours::Quarter),
        (8064, 6048, false, Colours::Grey),
        (8064, 6048, true, Colours::Full),
    ] {
        let jpeg = halves(width, height, is_progressive, colours);

        let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

        assert_eq!(shown.dimensions(), (100, 75));
        assert_pixel(&shown, 20, 40, [40; 3]);
        assert_pixel(&shown, 80, 40, [220; 3]);
    }
}

#[test]
fn a_very_tall_screenshot_is_shown_completely() {
    // Dark above, bright below.
    let picture = GrayImage::from_fn(1170, 16_000, |_, y| Luma([if y < 8000 { 30 } else { 230 }]));
    let png = written(&picture.into(), ImageFormat::Png);

    let shown = shown(&preview(ImageType::Png, &png).unwrap());

    assert_eq!(shown.dimensions(), (15, 200));
    assert_pixel(&shown, 7, 50, [30; 3]);
    assert_pixel(&shown, 7, 150, [230; 3]);
}

/// Returns a picture with content in every part, of a kind that all decoders support.
fn colourful(width: u32, height: u32) -> RgbImage {
    let part = |at: u32, side: u32| u8::try_from(at * 255 / side).unwrap();
    // Sharp edges, but only if they can lie between pixels of both small pictures.
    let has_edges = width.is_multiple_of(16) && height.is_multiple_of(16);
    RgbImage::from_fn(width, height, |x, y| {
        let is_blue = has_edges && (x / 80 + y / 80).is_multiple_of(2);
        let blue = if is_blue { 200 } else { 40 };
        Rgb([part(x, width), part(y, height), blue])
    })
}

#[test]
fn a_reduced_jpeg_looks_like_a_fully_decoded_one() {
    for (width, height) in [(1600, 48), (48, 1600), (1601, 1203), (3200, 1600)] {
        for grey in [false, true] {
            let picture = DynamicImage::from(colourful(width, height));
            let picture = if grey {
                picture.to_luma8().into()
            } else {
                picture
            };
            let jpeg = written(&picture, ImageFormat::Jpeg);
            let whole = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg).unwrap();

            let reduced = Picture::open(ImageType::Jpg, &jpeg)
                .unwrap()
                .shrink()
                .unwrap();

            let mut whole_reduced = reduction::Reduction::new(width, height);
            for (row, pixels) in (0..).zip(whole.to_rgb8().rows()) {
                let pixels = pixels.map(|Rgb([r, g, b])| [*r, *g, *b, u8::MAX]);
                whole_reduced.add(row, reduction::Stride::ONE, pixels);
            }
            let (reduced, whole) = (reduced.to_rgb8(), whole_reduced.finish());
            assert_eq!(reduced.dimensions(), whole.dimensions());
            let differences = reduced.iter().zip(whole.iter());
            let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            assert!(sum < 3 * reduced.len() as u64, "{width} by {height}: {sum}");
        }
    }
}

#[test]
fn detail_scans_of_a_large_jpeg_are_not_decoded() {
    // A progressive JPEG whose scans of details contain no valid code.
    let mut jpeg = halves(5712, 4284, true, Colours::Quarter);
    jpeg.truncate(jpeg.len() - 2);
    for _ in 0..10_000 {
        segment(&mut jpeg, 0xda, &[1, 1, 0, 1, 63, 0]);
        jpeg.extend([0xff, 0x00, 0xff, 0x00, 0xff, 0xd9]);
        jpeg.truncate(jpeg.len() - 2);
    }

    let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

    assert_pixel(&shown, 20, 40, [40; 3]);
}

#[test]
fn a_truncated_photo_shows_the_part_that_is_present() {
    let jpeg = halves(8064, 6048, false, Colours::Grey);

    let shown = shown(&preview(ImageType::Jpg, &jpeg[..jpeg.len() / 2]).unwrap());

    assert_pixel(&shown, 20, 20, [40; 3]);
    assert_pixel(&shown, 80, 20, [220; 3]);
}

#[test]
fn bytes_between_the_segments_of_a_jpeg_are_skipped() {
    let jpeg = plain(ImageFormat::Jpeg, 1600, 800, [90; 3]);
    let after_start = |between: &[u8]| [&jpeg[..2], between, &jpeg[2..]].concat();
    let mut thumbnail = vec![];
    // A second picture within a segment, as cameras store a thumbnail.
    segment(
        &mut thumbnail,
        0xe1,
        &plain(ImageFormat::Jpeg, 8, 8, [0; 3]),
    );

    for between in [&[0xff, 0xff][..], &[0, 1, 2], &[0xff, 0xd0], &thumbnail] {
        let shown = shown(&preview(ImageType::Jpg, &after_start(between)).unwrap());
        assert_eq!(shown.dimensions(), (100, 50));
        assert_colour(&shown, [90; 3]);
    }
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

/// Returns a GIF with a canvas of 400 by 400 pixels. It has a picture of 100 by 200 at this
/// position, black above and red below.
fn gif(left: u16, top: u16, is_interlaced: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = ::gif::Encoder::new(&mut file, 400, 400, &[0, 0, 0, 255, 0, 0]).unwrap();
    let mut rows: Vec<u16> = (0..200).collect();
    if is_interlaced {
        let pass = |first: u16, step| (first..200).step_by(step);
        rows = pass(0, 8)
            .chain(pass(4, 8))
            .chain(pass(2, 4))
            .chain(pass(1, 2))
            .collect();
    }
    let pixels: Vec<u8> = rows
        .iter()
        .flat_map(|row| [u8::from(*row >= 100); 100])
        .collect();
    let frame = ::gif::Frame {
        left,
        top,
        width: 100,
        height: 200,
        interlaced: is_interlaced,
        buffer: pixels.into(),
        ..::gif::Frame::default()
    };
    encoder.write_frame(&frame).unwrap();
    drop(encoder);
    file
}

#[test]
fn a_gif_frame_is_shown_at_its_position_on_the_canvas() {
    for is_interlaced in [false, true] {
        let shown = shown(&preview(ImageType::Gif, &gif(100, 200, is_interlaced)).unwrap());

        assert_eq!(shown.dimensions(), (100, 100));
        assert_pixel(&shown, 37, 62, [0; 3]);
        assert_pixel(&shown, 37, 87, [255, 0, 0]);
        for (x, y) in [(12, 62), (62, 62), (37, 37)] {
            assert_pixel(&shown, x, y, [255; 3]);
        }
    }
    // A picture that extends beyond the canvas is no error.
    let shown = shown(&preview(ImageType::Gif, &gif(350, 390, false)).unwrap());
    assert_pixel(&shown, 94, 99, [0; 3]);
}

#[test]
fn an_interlaced_png_shows_the_same_as_a_plain_one() {
    let pixel = |x: u32, y: u32| [u8::from(x >= 150) * 200, u8::from(y >= 100) * 100, 7];
    for (width, height) in [(1, 1), (3, 2), (300, 200), (301, 203)] {
        let picture = RgbImage::from_fn(width, height, |x, y| Rgb(pixel(x, y)));
        let plain = written(&picture.into(), ImageFormat::Png);

        let shown_plain = preview(ImageType::Png, &plain).unwrap();
        let shown_interlaced = preview(ImageType::Png, &interlaced(width, height, pixel)).unwrap();

        assert_eq!(shown_interlaced, shown_plain, "{width} by {height}");
    }
}

/// Returns an interlaced PNG of these pixels.
fn interlaced(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    let mut rows = vec![];
    for (columns, lines) in png::ADAM7 {
        if columns.up_to(width).next().is_none() {
            continue;
        }
        for y in lines.up_to(height) {
            // The filter type: none.
            rows.push(0);
            rows.extend(columns.up_to(width).flat_map(|x| pixel(x, y)));
        }
    }
    // The rows, in stored (uncompressed) blocks.
    let mut data = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap();
        data.push(u8::from(blocks.peek().is_none()));
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(block);
    }
    let (a, b) = rows.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    data.extend((b << 16 | a).to_be_bytes());
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let (w, h) = (width.to_be_bytes(), height.to_be_bytes());
    let head = [&w[..], &h, &[8, 2, 0, 0, 1]].concat();
    for (name, payload) in [(b"IHDR", head), (b"IDAT", data), (b"IEND", vec![])] {
        file.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        let begin = file.len();
        file.extend(name);
        file.extend(payload);
        let check = crc32(&file[begin..]);
        file.extend(check.to_be_bytes());
    }
    file
}

#[test]
fn a_png_of_any_colour_type_is_shown() {
    let colour = Rgba([200, 100, 50, 255]);
    let image = DynamicImage::from(RgbaImage::from_pixel(300, 300, colour));

    for (image, expected) in [
        (image.to_luma8().into(), [117; 3]),
        (image.to_luma_alpha8().into(), [117; 3]),
        (image.to_luma16().into(), [117; 3]),
        (image.to_rgb8().into(), [200, 100, 50]),
        (image.to_rgb16().into(), [200, 100, 50]),
        (image.to_rgba16().into(), [200, 100, 50]),
        (image, [200, 100, 50]),
    ] {
        let shown = shown(&preview(ImageType::Png, &written(&image, ImageFormat::Png)).unwrap());
        assert_colour(&shown, expected);
    }
}

#[test]
fn a_png_with_a_palette_shows_its_colours() {
    let mut png = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut png, 8, 8);
    encoder.set_color(::png::ColorType::Indexed);
    encoder.set_depth(::png::BitDepth::Two);
    encoder.set_palette(&[0, 0, 0, 10, 200, 30][..]);
    encoder.set_trns(&[0][..]);
    let mut writer = encoder.write_header().unwrap();
    // The left half is transparent, the right half has the second colour.
    writer
        .write_image_data(&[0b0000_0000, 0b0101_0101].repeat(8))
        .unwrap();
    writer.finish().unwrap();

    let shown = shown(&preview(ImageType::Png, &png).unwrap());

    assert_pixel(&shown, 1, 4, [255; 3]);
    assert_pixel(&shown, 6, 4, [10, 200, 30]);
}

#[test]
fn transparent_pixels_are_shown_white() {
    let clear = RgbaImage::from_pixel(10, 10, Rgba([0, 0, 0, 0]));
    let png = written(&clear.into(), ImageFormat::Png);

    let shown = shown(&preview(ImageType::Png, &png).unwrap());

    assert_colour(&shown, [255, 255, 255]);
}

#[test]
fn a_photo_is_rotated_by_its_exif_orientation() {
    let mut jpeg = plain(ImageFormat::Jpeg, 400, 200, [90; 3]);
    // Orientation 6, a quarter turn, in an Exif segment after the start of the image.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());

    let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

    assert_eq!(shown.dimensions(), (100, 200));
}

#[test]
fn noise_that_compresses_badly_gets_a_smaller_preview() {
    let mut state = 1_u32;
    let noise = RgbImage::from_fn(100, 200, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, r, g, b] = state.to_le_bytes();
        Rgb([r, g, b])
    });
    let png = written(&noise.into(), ImageFormat::Png);

    // `shown` checks that the preview is small enough.
    shown(&preview(ImageType::Png, &png).unwrap());
}

#[test]
fn an_image_of_too_many_pixels_is_refused_by_its_header() {
    let (png, gif, jpg) = (ImageType::Png, ImageType::Gif, ImageType::Jpg);
    let hollow_gif = |width: u16, height: u16| {
        let (w, h) = (width.to_le_bytes(), height.to_le_bytes());
        let canvas = [&b"GIF89a"[..], &w, &h, b"\x80\0\0\0\0\0\xff\xff\xff"].concat();
        [&canvas, &b"\x2c\0\0\0\0"[..], &w, &h, b"\0\x02\0\x3b"].concat()
    };

    for (width, height) in [(8192, 8192), (65_535, 1024), (1024, 65_535)] {
        opened(png, &hollow_png(width.into(), height.into(), 8, 2)).unwrap();
        opened(gif, &hollow_gif(width, height)).unwrap();
        opened(jpg, &jpeg_head(0xc0, width, height, &[0x11])).unwrap();
    }
    for (width, height) in [(8193, 8192), (65_535, 1025), (65_535, 65_535)] {
        for refused in [
            opened(png, &hollow_png(width.into(), height.into(), 8, 2)),
            opened(gif, &hollow_gif(width, height)),
            opened(jpg, &jpeg_head(0xc0, width, height, &[0x11])),
        ] {
            assert!(
                matches!(refused, Err(Error::TooLarge { .. })),
                "{refused:?}"
            );
        }
    }
    for (width, height) in [(65_536, 1), (1, 65_536), (60_000, 60_000)] {
        let refused = opened(png, &hollow_png(width, height, 16, 6));
        assert!(
            matches!(refused, Err(Error::TooLarge { .. })),
            "{refused:?}"
        );
    }
    opened(png, &hollow_png(0x7fff_ffff, 0x7fff_ffff, 16, 6)).unwrap_err();
    // The same for a picture that is larger than its canvas.
    let mut beyond = hollow_gif(65_535, 65_535);
    beyond[6..10].copy_from_slice(&[1, 0, 1, 0]);
    let refused = opened(gif, &beyond);
    assert!(
        matches!(refused, Err(Error::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_small_jpeg_of_too_many_scans_is_refused() {
    let with_scans = |side: u32, count: usize| {
        let mut jpeg = plain(ImageFormat::Jpeg, side, side, [7; 3]);
        jpeg.truncate(jpeg.len() - 2);
        let head = jpeg
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap();
        let scan = jpeg[head..].to_vec();
        jpeg.extend(scan.repeat(count - 1));
        jpeg.extend([0xff, 0xd9]);
        preview(ImageType::Jpg, &jpeg)
    };

    with_scans(300, 1).unwrap();
    // 26 scans of 2.5 megapixels, and then one more.
    with_scans(1592, 26).unwrap();
    let refused = with_scans(1592, 27);
    assert!(
        matches!(refused, Err(Error::TooManyScans { scans: 27 })),
        "{refused:?}"
    );
    let refused = with_scans(300, 101);
    assert!(
        matches!(refused, Err(Error::TooManyScans { scans: 101 })),
        "{refused:?}"
    );
}

#[test]
fn a_large_jpeg_of_many_empty_scans_costs_no_time() {
    let picture = halves(8064, 6048, false, Colours::Grey);
    // Without restarts, and with the longest possible interval between them.
    for restart_interval in [0, u16::MAX] {
        let mut jpeg = picture.clone();
        jpeg.truncate(jpeg.len() - 2);
        segment(&mut jpeg, 0xdd, &restart_interval.to_be_bytes());
        for _ in 0..100_000 {
            segment(&mut jpeg, 0xda, &[1, 1, 0, 0, 63, 0]);
        }

        let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

        assert_pixel(&shown, 80, 40, [220; 3]);
    }
}

#[test]
fn a_jpeg_with_missing_data_resumes_at_the_next_restart() {
    for is_progressive in [false, true] {
        let jpeg = pictures::Jpeg {
            width: 3200,
            height: 3200,
            is_progressive,
            colours: Colours::Quarter,
            // One row of units.
            restarts: 200,
            brightness: |_, row| if row < 200 { 40 } else { 220 },
        };
        let mut jpeg = jpeg.write();
        let whole = shown(&preview(ImageType::Jpg, &jpeg).unwrap());
        assert_pixel(&whole, 50, 25, [40; 3]);
        assert_pixel(&whole, 50, 75, [220; 3]);
        // Some rows of data are lost, a third of the way through the first scan.
        let scan = jpeg
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap();
        let is_restart = |pair: &[u8]| matches!(pair, [0xff, 0xd0..=0xd7]);
        let restarts = jpeg.windows(2).enumerate().skip(scan);
        let restarts = restarts
            .filter(|(_, pair)| is_restart(pair))
            .map(|(position, _)| position + 2);
        let restarts: Vec<_> = restarts.take(64).collect();
        jpeg.drain(restarts[62] + 3..restarts[63] - 2);

        let shown = shown(&preview(ImageType::Jpg, &jpeg).unwrap());

        assert_pixel(&shown, 50, 25, [40; 3]);
        assert_pixel(&shown, 50, 75, [220; 3]);
    }
}

#[test]
fn unsupported_or_invalid_jpeg_frames_are_refused() {
    for marker in (0xc3..=0xcf).filter(|marker| ![0xc4, 0xc8, 0xcc].contains(marker)) {
        let refused = opened(ImageType::Jpg, &jpeg_head(marker, 8, 8, &[0x11]));
        assert!(
            matches!(refused, Err(Error::Unreadable)),
            "{marker:x}: {refused:?}"
        );
    }
    for (width, height) in [(0, 8), (8, 0)] {
        let refused = opened(ImageType::Jpg, &jpeg_head(0xc0, width, height, &[0x11]));
        assert!(matches!(refused, Err(Error::Unreadable)), "{refused:?}");
    }
    for factors in [
        &[0x01][..],
        &[0x10],
        &[0x51],
        &[0x15],
        &[0x11; 2],
        &[0x11; 5],
    ] {
        let refused = preview(ImageType::Jpg, &jpeg_head(0xc0, 2000, 2000, factors));
        assert!(matches!(refused, Err(Error::Unreadable)), "{refused:?}");
    }
}

#[test]
fn a_second_jpeg_frame_is_not_decoded() {
    let mut jpeg = jpeg_head(0xc0, 8, 8, &[0x11]);
    jpeg.extend(&jpeg_head(0xc3, 65_535, 65_535, &[0x11; 4])[2..]);

    let Picture::Jpeg(picture) = Picture::open(ImageType::Jpg, &jpeg).unwrap() else {
        panic!("a JPEG")
    };
    assert_eq!(picture.size(), (8, 8));
    assert!(picture.shrink().is_err());
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
        (
            ImageType::Gif,
            b"GIF89a\0\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b",
        ),
        (ImageType::Gif, &jpeg[..]),
    ] {
        let refused = preview(kind, broken);
        let is_unreadable = matches!(
            refused,
            Err(Error::Unreadable | Error::Jpeg(_) | Error::Png(_) | Error::Gif(_))
        );
        assert!(is_unreadable, "{refused:?}");
    }
}

proptest! {
    #[test]
    fn altered_images_cause_neither_panics_nor_oversized_previews(
        kind in prop::sample::select(ImageType::ALL.to_vec()),
        is_progressive: bool,
        is_large: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut content = match kind {
            ImageType::Jpg => halves(if is_large { 1700 } else { 60 }, 40, is_progressive, Colours::Quarter),
            ImageType::Png => plain(ImageFormat::Png, 60, 40, [1, 2, 3]),
            ImageType::Gif => plain(ImageFormat::Gif, 60, 40, [1, 2, 3]),
        };
        for (index, byte) in changes {
            let index = index.index(content.len());
            content[index] = byte;
        }
        // The result is neither a panic nor a preview that is too large.
        if let Ok(preview) = preview(kind, &content) {
            prop_assert!(preview.len() < SIZE_LIMIT);
        }
    }
}

fn channel() -> ChannelId {
    "sms".parse().unwrap()
}

// The clock does not advance while pictures are decoded, so no task times out on a slow machine.
#[tokio::test(start_paused = true)]
async fn all_concurrent_requests_get_their_previews() {
    let previews = Previews::default();
    let small = Bytes::from(plain(ImageFormat::Png, 200, 200, [1; 3]));
    let large = Bytes::from(halves(8064, 6048, true, Colours::Grey));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 * SMALL_AT_ONCE {
        for (kind, image) in [(ImageType::Png, &small), (ImageType::Jpg, &large)] {
            let (previews, image) = (previews.clone(), image.clone());
            tasks.spawn(async move { previews.create(&channel(), kind, image, ()).await });
        }
    }

    let results = tasks.join_all().await;

    assert!(results.iter().all(Option::is_some));
    let broken = Bytes::from_static(b"GIF89a");
    assert_eq!(
        previews
            .create(&channel(), ImageType::Gif, broken, ())
            .await,
        None
    );
}

#[tokio::test]
async fn a_small_picture_does_not_wait_for_large_ones() {
    let previews = Previews::default();
    let small = Bytes::from(plain(ImageFormat::Png, 200, 200, [1; 3]));
    let _permit = previews.large.acquire(&channel()).await.unwrap();
    let large = Bytes::from(halves(8064, 6048, false, Colours::Grey));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..3 * SMALL_AT_ONCE {
        let (previews, large) = (previews.clone(), large.clone());
        waiting.spawn(async move { previews.create(&channel(), ImageType::Jpg, large, ()).await });
    }

    let preview = previews.create(&channel(), ImageType::Png, small, ()).await;
    assert!(preview.is_some());
    assert!(waiting.try_join_next().is_none());
}
