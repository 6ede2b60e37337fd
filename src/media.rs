//! Previews of images: small enough to go along in a message, made without trusting what users send.
//!
//! No large picture is ever in memory as a whole. PNGs and GIFs are decoded row by row, and JPEGs
//! of some 1600 pixels or more a side at an eighth of their size; what is decoded is averaged into
//! a picture of at most 200 pixels a side. So a preview needs memory for the file, 10 MiB for its
//! decoding, or 30 MiB if it is a small progressive JPEG, and 0.1 s for a photo of 48 megapixels.
//!
//! A picture of more than 67 megapixels, or of more than 65,535 pixels to a side, is refused by its
//! header, before it is decoded, so that a small file that stands for a huge picture does no harm.
//! Decoding is work for a blocking thread. Two small pictures are decoded at once, and beside them
//! one large picture, so that small ones do not wait behind large ones. None waits for long, and
//! channels take turns (`decoders`).
//!
//! A file without a preview is still a file: whatever goes wrong here costs the preview and nothing
//! else.

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
use decoders::Decoders;
use gif::Gif;
use jpeg::Jpeg;
use png::Png;

/// Small pictures that are decoded at once; beside them, one large picture is.
const AT_ONCE: usize = 2;

/// 67 megapixels: phones take pictures of up to 50, and a screenshot of as many is as high as some
/// 25 screens.
const MAX_PIXELS: u64 = 64 * 1024 * 1024;

/// 65,535 pixels: neither a JPEG nor a GIF can be wider or higher, and a row of a PNG of that width
/// takes 512 KiB at most.
const MAX_SIDE: u32 = 65_535;

/// 17 megapixels, above which a picture is large: some kinds take 0.1 s or longer.
const LARGE_PIXELS: u64 = 16 * 1024 * 1024;

/// 5 s, after which a file goes without a preview: the user's message waits for it.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// 30,000 bytes: the vendor's "30 KB" in its smaller reading, which a preview has to stay below.
const SIZE_LIMIT: usize = 30_000;

/// The box in pixels that a preview fits into, and its JPEG quality: the best that stays small enough is taken. 100
/// pixels is what the vendor's own sample client uses as the width.
const ATTEMPTS: [(u32, u32, u8); 3] = [(100, 200, 80), (100, 200, 50), (50, 100, 30)];

/// Makes previews; a clone shares the limits on how many are made at once.
#[derive(Debug, Clone)]
pub struct Previews {
    small: Arc<Decoders>,
    large: Arc<Decoders>,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            small: Arc::new(Decoders::new(AT_ONCE)),
            large: Arc::new(Decoders::new(1)),
        }
    }
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the image has {width} by {height} pixels")]
    Huge { width: u32, height: u32 },
    #[error("the image has {scans} scans")]
    Slow { scans: usize },
    #[error("too many others were before it")]
    Crowded,
    #[error("the image cannot be read")]
    Unreadable,
    #[error("the JPEG cannot be read")]
    Jpeg(#[source] image::ImageError),
    #[error("the PNG cannot be read")]
    Png(#[from] ::png::DecodingError),
    #[error("the GIF cannot be read")]
    Gif(#[from] ::gif::DecodingError),
    #[error("the preview cannot be written")]
    Unwritten(#[source] image::ImageError),
    #[error("no preview is small enough")]
    Overlong,
}

impl Previews {
    /// Makes the preview of an image as a data URI of less than 30 KB, of an animation that of its
    /// first picture; `None` if the image is broken or beyond the bounds. It is sent by `channel`. `place` is
    /// held for as long as the work goes on, also where nobody waits for it any more.
    pub async fn make<P: Clone + Send + 'static>(
        &self,
        channel: &ChannelId,
        kind: ImageType,
        content: Bytes,
        place: P,
    ) -> Option<String> {
        match self.try_to_make(channel, kind, content, place).await {
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

    async fn try_to_make<P: Clone + Send + 'static>(
        &self,
        channel: &ChannelId,
        kind: ImageType,
        content: Bytes,
        place: P,
    ) -> Result<Result<String, Error>, JoinError> {
        let (header, held) = (content.clone(), place.clone());
        let small = in_turn(&self.small, channel, move || {
            let _held = held;
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
                    let _held = place;
                    Picture::open(kind, &content)?.preview()
                };
                in_turn(&self.large, channel, large).await
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Does work on a blocking thread once one of the places for it is free.
async fn in_turn<T: Send + 'static>(
    decoders: &Decoders,
    channel: &ChannelId,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Result<T, Error>, JoinError> {
    let Some(place) = decoders.place(channel).await else {
        return Ok(Err(Error::Crowded));
    };
    spawn_blocking(move || {
        // The work goes on when nobody waits for it any more, so it keeps its place to the end.
        let _place = place;
        work()
    })
    .await
}

/// An image of which the header has been read.
enum Picture<'a> {
    Jpeg(Jpeg<'a>),
    Png(Box<Png<'a>>),
    Gif(Box<Gif<'a>>),
}

impl<'a> Picture<'a> {
    /// Reads the header of an image that is within the bounds.
    fn open(kind: ImageType, content: &'a [u8]) -> Result<Self, Error> {
        let picture = match kind {
            ImageType::Jpg => Self::Jpeg(Jpeg::open(content)?),
            ImageType::Png => Self::Png(Box::new(Png::open(content)?)),
            ImageType::Gif => Self::Gif(Box::new(Gif::open(content)?)),
        };
        let (width, height) = picture.size();
        if width.max(height) > MAX_SIDE || picture.pixels() > MAX_PIXELS {
            return Err(Error::Huge { width, height });
        }
        Ok(picture)
    }

    /// Width and height in pixels.
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

    /// Decodes the picture to one of at most 200 pixels a side, the way up that its camera noted.
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
            let jpeg = encode(&shrunk(&image, width, height), quality)?;
            let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
            if uri.len() < SIZE_LIMIT {
                return Ok(uri);
            }
        }
        Err(Error::Overlong)
    }
}

/// Turns an image the way up that its camera noted in Exif data.
fn upright(image: RgbImage, exif: Option<&[u8]>) -> DynamicImage {
    let mut image = DynamicImage::from(image);
    if let Some(orientation) = exif.and_then(Orientation::from_exif_chunk) {
        image.apply_orientation(orientation);
    }
    image
}

/// The image made to fit into a box; one that fits stays as it is.
fn shrunk(image: &DynamicImage, width: u32, height: u32) -> DynamicImage {
    if image.width() <= width && image.height() <= height {
        image.clone()
    } else {
        image.thumbnail(width, height)
    }
}

/// The image as a JPEG.
fn encode(image: &DynamicImage, quality: u8) -> Result<Vec<u8>, Error> {
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, quality);
    image
        .write_with_encoder(encoder)
        .map_err(Error::Unwritten)?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests;
