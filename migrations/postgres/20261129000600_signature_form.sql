-- The form of the signature of the notification that a kept change came in, such as 'sha256 base64'.
ALTER TABLE early_changes ADD COLUMN signed TEXT;
