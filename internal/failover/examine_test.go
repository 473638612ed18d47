package failover_test

import (
	"context"
	"testing"

	"pingover/internal/config"
	"pingover/internal/doctor"
	"pingover/internal/failover"
)

func TestDoctor(t *testing.T) {
	d := failover.Doctor(func(ctx context.Context, env failover.Env, c config.Cluster, sendTest bool) (found []failover.DoctorFinding) {
		for _, f := range doctor.RunIn(ctx, env, c, sendTest) {
			found = append(found, failover.DoctorFinding{Grade: string(f.Grade), Text: f.Text, Fix: f.Fix})
		}
		return found
	})
	t.Run("finds nothing wrong", d.TestFindsNothingWrong)
	t.Run("finds what is wrong", d.TestFindsWhatIsWrong)
	t.Run("examines hooks", d.TestExaminesHooks)
	t.Run("asks as often as a check", d.TestAsksAsOftenAsACheck)
	t.Run("sends mail only on request", d.TestSendsMailOnlyOnRequest)
	t.Run("changes nothing", d.TestChangesNothing)
}
