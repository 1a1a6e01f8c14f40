package clientapi

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// feature is one thing that a whole client-server API has, and the tests that
// exercise it: functions of this package, or of another where its folder stands
// before the colon.
type feature struct {
	name  string
	tests string
}

// TestChecklist holds the list to the tests: each feature has one, and each test
// that it names is there.
func TestChecklist(t *testing.T) {
	funcs := map[string]map[string]bool{}
	names := map[string]bool{}
	for _, f := range append(coreFeatures(), moduleFeatures()...) {
		t.Run(f.name, func(t *testing.T) {
			if names[f.name] {
				t.Error("it is listed twice")
			}
			names[f.name] = true
			if f.tests == "" {
				t.Error("it needs tests")
			}
			for _, test := range strings.Fields(f.tests) {
				folder, name := ".", test
				if at, rest, ok := strings.Cut(test, ":"); ok {
					folder, name = filepath.Join("../..", at), rest
				}
				if funcs[folder] == nil {
					funcs[folder] = testsIn(t, folder)
				}
				if !funcs[folder][name] {
					t.Errorf("there is no test %s in %s", name, folder)
				}
			}
		})
	}
}

// testsIn names the tests of a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no tests: %v", folder, err)
	}
	found := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				found[f.Name.Name] = true
			}
		}
	}
	return found
}

// coreFeatures is the client-server API without its modules, in the order of
// the specification.
func coreFeatures() []feature {
	return []feature{
		{name: "errors are JSON, unknown paths and methods are told apart", tests: "TestServer TestBadBodies httpd/wire:TestFail"},
		{name: "error codes that any request may have", tests: "httpd/wire:TestAnswers httpd/wire:TestFail httpd/wire:TestAuth"},
		{name: "error codes of single requests", tests: "httpd/wire:TestAnswers TestCreateRoom TestRegister TestBackup"},
		{name: "rate limits with a time to wait", tests: "httpd/wire:TestLimits httpd/wire:TestLimitsBounded"},
		{name: "a transaction makes one event, also after a token was refreshed", tests: "TestSendAndState TestTransactionOutlivesItsToken"},
		{name: "browsers of any origin", tests: "httpd/wire:TestFail httpd/wire:TestAuth"},
		{name: "discovery and support contacts", tests: "TestServer"},
		{name: "versions and unstable features", tests: "TestServer TestUnstableFeatures"},
		{name: "access tokens in header and query", tests: "TestServer httpd/wire:TestAuth"},
		{name: "refresh tokens", tests: "TestRefreshTokens engine/account:TestRefresh"},
		{name: "soft logout", tests: "TestRefreshTokens TestLockedAndSuspended"},
		{name: "user-interactive authentication", tests: "TestRegister TestDevices TestRegisterWithAddressAndTerms"},
		{name: "pages for stages that a client does not know", tests: "TestFallbackPages"},
		{name: "identifiers of users", tests: "TestLogin TestPasswordReset TestPhone"},
		{name: "login", tests: "TestLogin"},
		{name: "login tokens for another device", tests: "TestLoginToken"},
		{name: "the login page", tests: "TestFallbackPages"},
		{name: "registration", tests: "TestRegister TestGuests"},
		{name: "registration tokens", tests: "TestRegisterByToken TestTokenIsFreeAfterTheExchange"},
		{name: "proofs of e-mail addresses and phone numbers", tests: "TestAddAddress TestPhone TestCodeIsNotGuessed TestPhonePage TestNoMail TestProofsAreBounded"},
		{name: "addresses of an account", tests: "TestAddAddress TestNoMail"},
		{name: "new passwords", tests: "TestPassword TestPasswordReset"},
		{name: "deactivation", tests: "TestDeactivate TestDeactivateWithoutToken engine:TestDeactivatedLeavesTheRooms"},
		{name: "OAuth 2.0: authorization code, client registration, revocation", tests: "TestOAuthMetadata TestOAuthRegistration TestOAuthCode TestOAuthAuthorizeRefuses TestOAuthForms TestOAuthRefreshAndRevoke engine/account:TestOAuthSession engine/oauth:TestRedirects cmd/internal/e2e:TestJSSignIn"},
		{name: "OAuth 2.0: device grant", tests: "TestOAuthDeviceGrant cmd/internal/e2e:TestJSSignIn"},
		{name: "OAuth 2.0: account management", tests: "TestAccountPage TestOAuthResetsKeys TestOAuthSessionsMayNot"},
		{name: "OAuth 2.0: hints for clients that know it", tests: "TestSignOnPage TestLogin"},
		{name: "locked accounts", tests: "TestLockedAndSuspended TestAdministration"},
		{name: "suspended accounts", tests: "TestLockedAndSuspended TestSuspendedRedacts"},
		{name: "who a token belongs to", tests: "TestServer TestGuests"},
		{name: "capabilities", tests: "TestServer TestCapabilities"},
		{name: "filters", tests: "TestFilter TestSync engine/filter:TestMatching engine/filter:TestFields"},
		{name: "lazily loaded members", tests: "TestLazyMembers engine/sync:TestLazyMembers"},
		{name: "forms and sizes of events", tests: "engine/sync:TestFormsOfEvents engine/event:TestExactSize engine/event:TestClientForms"},
		{name: "stripped state", tests: "TestInvitesShowStrippedState engine/sync:TestKnock"},
		{name: "sync", tests: "TestSync engine/sync:TestAllRoadsLeadToTheSameState engine/sync:TestLimitedTimeline"},
		{name: "state after the timeline", tests: "engine/sync:TestLimitedTimeline engine/sync:TestAllRoadsLeadToTheSameState TestStateAfter"},
		{name: "reading events, state and members", tests: "TestSendAndState TestMessages TestEveryEventOnce"},
		{name: "the event next to a time", tests: "TestTimestampToEvent"},
		{name: "sending events", tests: "TestSendAndState"},
		{name: "redaction", tests: "TestRedact engine:TestRedactionByTheGeneralWay engine/event:TestRedactionTable"},
		{name: "relations and what is told with an event", tests: "TestBundles TestRelationPages"},
		{name: "the sync of old clients", tests: "TestOldClients"},
		{name: "making rooms", tests: "TestCreateRoom"},
		{name: "aliases", tests: "TestDirectory engine:TestAliases"},
		{name: "power levels", tests: "TestPowerLevelsRule engine/auth:TestPowerLevelsRule engine/auth:TestPowerLevels"},
		{name: "membership", tests: "TestMembershipRequests engine:TestStandings"},
		{name: "knocking", tests: "TestKnock engine/sync:TestKnock"},
		{name: "restricted rooms", tests: "engine:TestJoining TestRestrictedRoom"},
		{name: "leaving and forgetting", tests: "TestMembershipRequests engine/sync:TestComingAndGoing"},
		{name: "public rooms", tests: "TestDirectory TestPublicRoomPages"},
		{name: "summaries of rooms", tests: "TestHierarchy"},
		{name: "the user directory", tests: "TestUserDirectory"},
		{name: "profiles", tests: "TestProfile engine:TestProfileReachesTheRooms"},
	}
}

// moduleFeatures is the modules, in the order of the specification's list.
func moduleFeatures() []feature {
	return []feature{
		{name: "instant messaging", tests: "TestMessageKindsPass"},
		{name: "rich replies", tests: "TestMessageKindsPass"},
		{name: "calls", tests: "TestMessageKindsPass TestTURN"},
		{name: "typing", tests: "TestReadingMarks engine/ephemeral:TestTyping engine:TestLeavingEndsTyping"},
		{name: "receipts", tests: "TestReadingMarks engine/unread:TestThreadsAndReceipts"},
		{name: "read and unread marks", tests: "TestReadingMarks TestAccountDataKindsPass"},
		{name: "presence", tests: "TestReadingMarks TestPresenceList engine/sync:TestPresence"},
		{name: "uploads and downloads", tests: "httpd/mediaapi:TestDownload httpd/mediaapi:TestAsyncUpload httpd/mediaapi:TestDisposition httpd/mediaapi:TestFrozen"},
		{name: "thumbnails", tests: "httpd/mediaapi:TestThumbnail"},
		{name: "previews of links", tests: "httpd/mediaapi:TestPreview httpd/mediaapi:TestPreviewRefused"},
		{name: "messages to devices", tests: "TestSendToDevice TestSyncTellsOfKeysAndMessages"},
		{name: "devices", tests: "TestDevices engine:TestDevicesEndWithTheirKeys"},
		{name: "keys for end-to-end encryption", tests: "TestKeyUpload TestKeyQuery TestKeyChanges"},
		{name: "cross-signing", tests: "TestCrossSigning"},
		{name: "key backup", tests: "TestBackup engine/e2ee:TestBetterKeysReplaceOthers"},
		{name: "verification of devices", tests: "TestToDeviceKindsPass cmd/internal/e2e:TestJSConversation"},
		{name: "sharing of encrypted history", tests: "TestToDeviceKindsPass"},
		{name: "secrets", tests: "TestToDeviceKindsPass TestAccountDataKindsPass"},
		{name: "history visibility", tests: "TestHistoryVisibility TestBanAfterLeavingShowsNothingNew"},
		{name: "push", tests: "TestPushers TestNotifications engine:TestPushFull engine:TestPushMail"},
		{name: "push rules", tests: "TestPushRules engine/pushrule:TestDefaults engine/pushrule:TestConditions"},
		{name: "mentions", tests: "engine/pushrule:TestConditions TestMessageKindsPass"},
		{name: "invitations by address", tests: "TestInviteByAddress engine/auth:TestThirdPartyInvite"},
		{name: "search", tests: "TestSearch TestSearchPages"},
		{name: "guests", tests: "TestGuests engine:TestGuestAccess"},
		{name: "room previews", tests: "TestOldClients TestHistoryVisibility"},
		{name: "tags", tests: "TestAccountData engine/account:TestTags"},
		{name: "account data", tests: "TestAccountData TestDeletingAccountData"},
		{name: "administration", tests: "TestAdministration"},
		{name: "the surroundings of an event", tests: "TestMessages TestEveryEventOnce"},
		{name: "single sign-on", tests: "TestSingleSignOn TestSingleSignOnStage httpd/sso:TestOIDC"},
		{name: "CAS", tests: "TestSingleSignOn httpd/sso:TestCAS"},
		{name: "direct messages", tests: "TestAccountDataKindsPass TestInvitesShowStrippedState"},
		{name: "ignored users", tests: "TestBundles engine/sync:TestIgnoredUsers"},
		{name: "stickers", tests: "TestMessageKindsPass"},
		{name: "reports", tests: "TestReports httpd/adminapi:TestReports"},
		{name: "third-party networks", tests: "TestNoBridges"},
		{name: "OpenID", tests: "TestOpenID"},
		{name: "server access lists", tests: "TestStateKindsPass"},
		{name: "room upgrades", tests: "TestUpgradeCarriesEverything TestFalseSuccessorGetsNothing"},
		{name: "server notices", tests: "httpd/adminapi:TestNotices"},
		{name: "moderation policies", tests: "TestStateKindsPass"},
		{name: "spaces", tests: "TestHierarchy"},
		{name: "edits", tests: "TestBundles"},
		{name: "reactions", tests: "TestAnnotatingTwice TestBundles"},
		{name: "threads", tests: "TestThreads engine/sync:TestThreadCounts"},
		{name: "references", tests: "TestBundles"},
		{name: "who may invite", tests: "TestInvitePermission engine:TestInvitePermission"},
		{name: "policy servers", tests: "httpd/simnet:TestPolicyServer"},
		{name: "recent emoji", tests: "TestAccountDataKindsPass"},
		{name: "image packs", tests: "TestStateKindsPass TestAccountDataKindsPass"},
		{name: "rooms in common", tests: "TestMutualRooms"},
		{name: "what only old clients ask for", tests: "TestOldClients TestPresenceList TestR0HasOnlyWhatItHad"},
		{name: "unstable extensions", tests: "TestDelayedEvents TestThreadSubscriptions TestOwnedState TestDehydratedDevice TestMessagesByRelation TestDeviceSettingsGoWithTheDevice"},
	}
}
