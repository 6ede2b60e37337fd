-- contract: since 0.1.0 nothing takes these two user ids, which are segments that URLs drop
-- Most clients could not name such a user, erase it or fetch its files. All rows of the user go.
DELETE FROM users WHERE user_id IN ('.', '..');
