package main

import (
	"encoding/json"
	"time"

	"github.com/hibiken/asynq"
)

// A scheduler's entries; with `Manager`, given by a provider that is polled.
type scheduleSettings struct {
	Manager bool `json:"manager"`
	Entries []struct {
		Spec string `json:"spec"`
		Task order  `json:"task"`
	} `json:"entries"`
}

func (s scheduleSettings) GetConfigs() ([]*asynq.PeriodicTaskConfig, error) {
	configs := []*asynq.PeriodicTaskConfig{}
	for _, e := range s.Entries {
		configs = append(configs, &asynq.PeriodicTaskConfig{
			Cronspec: e.Spec, Task: e.Task.task(), Opts: e.Task.options(),
		})
	}
	return configs, nil
}

func schedule(redis asynq.RedisConnOpt, raw []byte) error {
	var settings scheduleSettings
	if err := json.Unmarshal(raw, &settings); err != nil {
		return err
	}
	opts := &asynq.SchedulerOpts{HeartbeatInterval: time.Second, LogLevel: asynq.WarnLevel}
	if settings.Manager {
		manager, err := asynq.NewPeriodicTaskManager(asynq.PeriodicTaskManagerOpts{
			PeriodicTaskConfigProvider: settings, RedisConnOpt: redis, SchedulerOpts: opts,
			SyncInterval: time.Second,
		})
		if err != nil {
			return err
		}
		if err := manager.Start(); err != nil {
			return err
		}
		untilTerm()
		manager.Shutdown()
		return nil
	}
	scheduler := asynq.NewScheduler(redis, opts)
	for _, e := range settings.Entries {
		if _, err := scheduler.Register(e.Spec, e.Task.task(), e.Task.options()...); err != nil {
			return err
		}
	}
	if err := scheduler.Start(); err != nil {
		return err
	}
	untilTerm()
	scheduler.Shutdown()
	return nil
}
