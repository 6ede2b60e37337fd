//! The build script. It has the crate rebuilt when a migration is added: `sqlx::migrate!` embeds
//! the folder, and cargo does not watch folders by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
