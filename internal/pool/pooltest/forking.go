package pooltest

// forking are the stories that a start by fork can change, and what in them. In all others a forked worker is a spawned
// one: the same pool in front, the same frames, the same loop in Python. test-long tells those with forked workers too.
var forking = map[string]string{
	"TestP1_LazyStartsNothingBeforeFirstUse": "the zygote is a process too",
	"TestP2_StartsOverlap":                   "one zygote makes all workers",
	"TestP6_BadInterpreter":                  "it is the zygote that can't be started",
	"TestP6_BadModule":                       "it is the zygote that fails to import",
	"TestP7_InitTimeoutKillsGroup":           "the import, and what it leaves, are in the zygote's group",
	"TestP8_DeterministicBootFailure":        "the zygote is tried again, at its own pace",
	"TestP8_LazyGoesOnTrying":                "the zygote is tried again, at its own pace",
	"TestP10_ShutdownDuringStart":            "all workers wait for the zygote then",
	"TestP12_ShutdownIdempotentAndBounded":   "the zygote ends with the pool",

	"TestP72_KilledWhileIdle":            "the process is a grandchild that was adopted",
	"TestP73_KilledWhileBusy":            "its status comes to whoever adopted it",
	"TestP74_KillOneHalfAll":             "many forks in a row",
	"TestP75_ConstantKilling":            "forks while siblings die",
	"TestP77_EndsAreDistinguishable":     "its status comes to whoever adopted it",
	"TestP78_GrandchildrenGone":          "its group is one that it made itself",
	"TestP78_StrayHoldsThePipe":          "siblings and zygote may hold the pipe as well",
	"TestP80_CrashLoop":                  "a fork is fast enough for a hot loop",
	"TestP85_OneRequestEach":             "a fork for each request",
	"TestP29_CancelledOperation":         "its signal handlers were the zygote's",
	"TestP30_HungInC":                    "its group is one that it made itself",
	"TestP30_Stopped":                    "its group is one that it made itself",
	"TestP27_LateReply":                  "siblings were made while its pipes were open",
	"TestP37_UnsolicitedWhileIdle":       "it starts a thread, which the zygote mustn't have",
	"TestP38_OutputDoesntReachTheFrames": "its descriptors came through a socket",
	"TestP41_OutputIsBoundedAndHarmless": "its output pipe came through a socket",
	"TestP86_MaxMemory":                  "most of what it maps is the zygote's",
	"TestP94_P97_CountersMove":           "starts are counted and timed by another way",
	"TestP98_FiguresOfAWorker":           "most of what it maps is the zygote's",
	"TestCodecIsReported":                "the zygote has chosen the codec",
	"TestCommandsAreReported":            "the zygote has imported the commands",
}
