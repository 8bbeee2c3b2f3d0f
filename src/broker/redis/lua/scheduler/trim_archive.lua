-- Purpose: deletes archived jobs that are too old or too many.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most in this call
-- ARGV[3]  most archived jobs
-- ARGV[4]  seconds they are kept
--
-- Returns  now, how many were deleted
--
-- Asynq trims only when it archives. A limit that was lowered, or an archive that
-- a Go tool filled, is brought down here, a part at a time.

trim_left = tonumber(ARGV[2])
expect_zsets('archived')
return {now, make_room(tonumber(ARGV[3]) + 1, tonumber(ARGV[4]))}
