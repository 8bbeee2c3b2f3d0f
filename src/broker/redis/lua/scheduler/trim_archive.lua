-- Purpose: deletes archived jobs that are too old or too many.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs to delete
-- ARGV[3]  maximum number of archived jobs
-- ARGV[4]  seconds archived jobs are kept
--
-- Returns  now, number of deleted jobs
--
-- Asynq trims only when it archives a job. This script brings down an archive whose limit
-- was lowered or that a Go tool filled, one bounded part at a time.

trim_left = tonumber(ARGV[2])
expect_zsets('archived')
return {now, make_room(tonumber(ARGV[3]) + 1, tonumber(ARGV[4]))}
