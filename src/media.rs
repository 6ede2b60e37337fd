//! Previews of images: small enough to go along in a message, made without trusting what users send.
//!
//! Decoding is work for a blocking thread, and only so many images are decoded at once. An image that would need too
//! much memory is refused by its header, before it is decoded, so that a small file that stands for a huge picture does
//! no harm. A file without a preview is still a file: whatever goes wrong here costs the preview and nothing else.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};
use tokio::sync::Semaphore;
use tokio_util::bytes::Bytes;

use crate::types::file::ImageType;

/// Images that are decoded at once: each may need [`MAX_DECODED_BYTES`], and some formats twice as much on the way.
const AT_ONCE: usize = 2;

/// 16 megapixels: the pictures of usual phones have 12.
const MAX_PIXELS: u64 = 16 * 1024 * 1024;

/// 64 MiB: that many pixels with transparency.
const MAX_DECODED_BYTES: u64 = 4 * MAX_PIXELS;

/// 30,000 bytes: the vendor's "30 KB" in its smaller reading, which a preview has to stay below.
const SIZE_LIMIT: usize = 30_000;

/// The box in pixels that a preview fits into, and its JPEG quality: the best that stays small enough is taken. 100
/// pixels is what the vendor's own sample client uses as the width.
const ATTEMPTS: [(u32, u32, u8); 3] = [(100, 200, 80), (100, 200, 50), (50, 100, 30)];

/// Makes previews; a clone shares the limit on how many are made at once.
#[derive(Debug, Clone)]
pub struct Previews {
    places: Arc<Semaphore>,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the image has {width} by {height} pixels")]
    Huge { width: u32, height: u32 },
    #[error("the image needs {bytes} bytes in memory")]
    Heavy { bytes: u64 },
    #[error("the image cannot be read")]
    Unreadable(#[from] image::ImageError),
    #[error("no preview is small enough")]
    Overlong,
}

impl Previews {
    /// The preview of an image as a data URI of less than 30 KB, of an animation its first picture; none where the image
    /// is broken or too large to be decoded.
    pub async fn make(&self, kind: ImageType, content: Bytes) -> Option<String> {
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let made = tokio::task::spawn_blocking(move || {
            // The work goes on when nobody waits for it any more, so it keeps its place to the end.
            let _place = place;
            preview(kind, &content)
        });
        match made.await {
            Ok(Ok(preview)) => Some(preview),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::info!(error, kind = kind.as_str(), "a file goes without a preview");
                None
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, kind = kind.as_str(), "the decoder of images failed");
                None
            }
        }
    }
}

fn preview(kind: ImageType, content: &[u8]) -> Result<String, Error> {
    let image = decode(kind, content)?;
    for (width, height, quality) in ATTEMPTS {
        let jpeg = encode(&shrunk(&image, width, height), quality)?;
        let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
        if uri.len() < SIZE_LIMIT {
            return Ok(uri);
        }
    }
    Err(Error::Overlong)
}

/// The image, no larger than any preview needs, the way up that its camera noted.
fn decode(kind: ImageType, content: &[u8]) -> Result<DynamicImage, Error> {
    let format = match kind {
        ImageType::Jpg => ImageFormat::Jpeg,
        ImageType::Png => ImageFormat::Png,
        ImageType::Gif => ImageFormat::Gif,
    };
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::Huge { width, height });
    }
    let bytes = decoder.total_bytes();
    if bytes > MAX_DECODED_BYTES {
        return Err(Error::Heavy { bytes });
    }
    let orientation = decoder.orientation()?;
    let image = DynamicImage::from_decoder(decoder)?;
    // Square, since which side is the width is not known before the image is turned.
    let mut image = shrunk(&image, 200, 200);
    image.apply_orientation(orientation);
    Ok(image)
}

/// The image made to fit into a box; one that fits stays as it is.
fn shrunk(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    if image.width() <= width && image.height() <= height {
        image.clone()
    } else {
        image.thumbnail(width, height)
    }
}

/// The image as a JPEG, what is transparent in white.
fn encode(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, Error> {
    const WHITE: Rgba<u8> = Rgba([u8::MAX; 4]);
    let mut canvas = RgbaImage::from_pixel(image.width(), image.height(), WHITE);
    image::imageops::overlay(&mut canvas, &image.to_rgba8(), 0, 0);
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, quality);
    DynamicImage::from(canvas)
        .to_rgb8()
        .write_with_encoder(encoder)?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests;
