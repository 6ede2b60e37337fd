//! Previews of images: small enough to fit into a message, and created without trust in the users'
//! files.
//!
//! No large picture is ever in memory as a whole. PNGs and GIFs are decoded row by row. JPEGs of
//! about 1600 pixels a side or more are decoded at an eighth of their size. The decoded pixels are
//! averaged into a picture of at most 200 pixels a side. So a preview needs memory for the file,
//! plus 10 MiB for decoding, or 30 MiB for a small progressive JPEG. A photo of 48 megapixels takes
//! 0.1 s.
//!
//! A picture of more than 67 megapixels, or of more than 65,535 pixels a side, is refused by its
//! header, before it is decoded. So a small file that claims to be a huge picture does no harm.
//! Decoding runs on a blocking thread. Two small pictures and one large picture are decoded at a
//! time, so that small ones do not wait for large ones. The wait is limited, and channels take
//! turns (`decoders`).
//!
//! A file can be sent without a preview, so an error here affects only the preview.

mod decoders;
mod gif;
mod jpeg;
mod png;
mod reduction;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::bytes::Bytes;

use crate::types::file::ImageType;
use crate::types::ids::ChannelId;
use decoders::DecodingPermits;
use gif::Gif;
use jpeg::Jpeg;
use png::Png;

/// The number of small pictures that are decoded at a time, besides one large picture.
const SMALL_AT_ONCE: usize = 2;

/// 67 megapixels. Phones take pictures of up to 50 megapixels. A screenshot of that size is as high
/// as about 25 screens.
const MAX_PIXELS: u64 = 64 * 1024 * 1024;

/// 65,535 pixels: the maximum side of a JPEG or a GIF. A row of a PNG of that width takes at most
/// 512 KiB.
const MAX_SIDE: u32 = 65_535;

/// 17 megapixels: the size above which a picture is large. Some kinds of that size take 0.1 s or
/// longer.
const LARGE_PIXELS: u64 = 16 * 1024 * 1024;

/// 5 s: the longest wait for a permit, since the user's message waits for the preview. After that
/// the file is sent without one.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// 30,000 bytes: the stricter reading of the vendor's "30 KB". A preview must be smaller.
const SIZE_LIMIT: usize = 30_000;

/// The maximum width and height of a preview in pixels, and its JPEG quality, for each attempt. The
/// first result that is small enough is used. The vendor's own sample client uses a width of 100
/// pixels.
const ATTEMPTS: [(u32, u32, u8); 3] = [(100, 200, 80), (100, 200, 50), (50, 100, 30)];

/// The creator of previews. Clones share the limits on concurrent work.
#[derive(Debug, Clone)]
pub struct Previews {
    small: Arc<DecodingPermits>,
    large: Arc<DecodingPermits>,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            small: Arc::new(DecodingPermits::new(SMALL_AT_ONCE)),
            large: Arc::new(DecodingPermits::new(1)),
        }
    }
}

/// The reason why there is no preview.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the image is too large: {width} by {height} pixels")]
    TooLarge { width: u32, height: u32 },
    #[error("the image has too many scans: {scans}")]
    TooManyScans { scans: usize },
    #[error("too many images are waiting")]
    Busy,
    #[error("the image cannot be read")]
    Unreadable,
    #[error("the JPEG cannot be read")]
    Jpeg(#[source] image::ImageError),
    #[error("the PNG cannot be read")]
    Png(#[from] ::png::DecodingError),
    #[error("the GIF cannot be read")]
    Gif(#[from] ::gif::DecodingError),
    #[error("the preview cannot be written")]
    NotEncoded(#[source] image::ImageError),
    #[error("no preview is small enough")]
    PreviewTooLarge,
}

impl Previews {
    /// Creates the preview of an image as a data URI of less than 30 KB. For an animation it shows
    /// the first picture. Returns `None` if the image is broken or too large. `channel` is the
    /// channel that sends the image. `permit` is the caller's permit for the file. It is held until
    /// the work ends, even if the caller stops waiting.
    pub async fn create<P: Clone + Send + 'static>(
        &self,
        channel: &ChannelId,
        kind: ImageType,
        content: Bytes,
        permit: P,
    ) -> Option<String> {
        match self.try_create(channel, kind, content, permit).await {
            Ok(Ok(preview)) => Some(preview),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::info!(
                    error,
                    kind = kind.as_str(),
                    "a file is sent without a preview"
                );
                None
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, kind = kind.as_str(), "the image decoder failed");
                None
            }
        }
    }

    async fn try_create<P: Clone + Send + 'static>(
        &self,
        channel: &ChannelId,
        kind: ImageType,
        content: Bytes,
        permit: P,
    ) -> Result<Result<String, Error>, JoinError> {
        let (header, small_permit) = (content.clone(), permit.clone());
        let small = run_with_permit(&self.small, channel, move || {
            let _permit = small_permit;
            let picture = Picture::open(kind, &header)?;
            if picture.is_large() {
                return Ok(None);
            }
            picture.preview().map(Some)
        });
        match small.await? {
            Ok(Some(preview)) => Ok(Ok(preview)),
            Ok(None) => {
                let large = move || {
                    let _permit = permit;
                    Picture::open(kind, &content)?.preview()
                };
                run_with_permit(&self.large, channel, large).await
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Runs work on a blocking thread once a permit is acquired.
async fn run_with_permit<T: Send + 'static>(
    permits: &DecodingPermits,
    channel: &ChannelId,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Result<T, Error>, JoinError> {
    let Some(permit) = permits.acquire(channel).await else {
        return Ok(Err(Error::Busy));
    };
    spawn_blocking(move || {
        // The work continues even if the caller stops waiting, so it holds its permit to the end.
        let _permit = permit;
        work()
    })
    .await
}

/// An image whose header has been read.
enum Picture<'a> {
    Jpeg(Jpeg<'a>),
    Png(Box<Png<'a>>),
    Gif(Box<Gif<'a>>),
}

impl<'a> Picture<'a> {
    /// Reads the header of an image, and checks that its size is within the bounds.
    fn open(kind: ImageType, content: &'a [u8]) -> Result<Self, Error> {
        let picture = match kind {
            ImageType::Jpg => Self::Jpeg(Jpeg::open(content)?),
            ImageType::Png => Self::Png(Box::new(Png::open(content)?)),
            ImageType::Gif => Self::Gif(Box::new(Gif::open(content)?)),
        };
        let (width, height) = picture.size();
        if width.max(height) > MAX_SIDE || picture.pixels() > MAX_PIXELS {
            return Err(Error::TooLarge { width, height });
        }
        Ok(picture)
    }

    /// Returns the width and the height in pixels.
    fn size(&self) -> (u32, u32) {
        match self {
            Self::Jpeg(jpeg) => jpeg.size(),
            Self::Png(png) => png.size(),
            Self::Gif(gif) => gif.size(),
        }
    }

    fn pixels(&self) -> u64 {
        let (width, height) = self.size();
        u64::from(width) * u64::from(height)
    }

    fn is_large(&self) -> bool {
        self.pixels() > LARGE_PIXELS
    }

    /// Decodes the picture to one of at most 200 pixels a side, rotated as its Exif data says.
    fn shrink(self) -> Result<DynamicImage, Error> {
        match self {
            Self::Jpeg(jpeg) => jpeg.shrink(),
            Self::Png(png) => png.shrink(),
            Self::Gif(gif) => gif.shrink(),
        }
    }

    fn preview(self) -> Result<String, Error> {
        let image = self.shrink()?;
        for (width, height, quality) in ATTEMPTS {
            let jpeg = encode(&scaled_to_fit(&image, width, height), quality)?;
            let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
            if uri.len() < SIZE_LIMIT {
                return Ok(uri);
            }
        }
        Err(Error::PreviewTooLarge)
    }
}

/// Rotates or mirrors an image as its Exif data says.
fn upright(image: RgbImage, exif: Option<&[u8]>) -> DynamicImage {
    let mut image = DynamicImage::from(image);
    if let Some(orientation) = exif.and_then(Orientation::from_exif_chunk) {
        image.apply_orientation(orientation);
    }
    image
}

/// Scales the image down to fit into a box. An image that fits stays as it is.
fn scaled_to_fit(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    if image.width() <= width && image.height() <= height {
        image.clone()
    } else {
        image.thumbnail(width, height)
    }
}

/// Encodes the image as a JPEG.
fn encode(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, Error> {
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, quality);
    image
        .write_with_encoder(encoder)
        .map_err(Error::NotEncoded)?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests;
