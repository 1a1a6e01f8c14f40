package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"
)

// What people already own goes on unchanged, through a hub that was stopped and
// one that was killed. Each test has the packets of the program or firmware that it
// is about: its topics, QoS, retain flags, wills, client ids and order.

// homeAssistant is Home Assistant with its default settings: a clean session, a
// random client id, one SUBSCRIBE for all that it asks for, its birth behind that.
func (h *house) homeAssistant(secret string) *appliance {
	return h.newAppliance("3xrqbT6JAbGtmJZFTvH4Xs", "homeassistant", secret, func(a *appliance) {
		a.done(a.c.SubscribeMultiple(map[string]byte{
			"homeassistant/+/+/config": 0, "homeassistant/+/+/+/config": 0, "tasmota/discovery/#": 0,
			"kitchen/status": 0, "kitchen/sensor/temperature/state": 0, "fridge/temperature": 0,
		}, nil))
		a.publish("homeassistant/status", "online", 0, false)
	}, func(o *mqtt3.ClientOptions) {
		o.SetCleanSession(true).SetWill("homeassistant/status", "offline", 0, false)
	})
}

const fridgeTopic, fridgeConfig = "homeassistant/sensor/fridge/temperature/config", `{"name":"Temperature","state_topic":"fridge/temperature","unique_id":"fridge-t","device":{"identifiers":["fridge"]}}`

func TestHabitsHomeAssistant(t *testing.T) {
	h := startHouse(t, "homeassistant")
	ha := h.homeAssistant(h.thing("add", "homeassistant", "--allow", "read:fridge/#", "--allow", "read:tasmota/#", "--allow", "read:kitchen/#").Password)
	secret := h.thing("add", "fridge", "--allow", "write:homeassistant/#", "--allow", "read:homeassistant/status").Password
	// A device as most that announce themselves: at each connect, and at each birth.
	announce := func(a *appliance) { a.publish(fridgeTopic, fridgeConfig, 0, true) }
	fridge := h.newAppliance("fridge-0042", "fridge", secret, func(a *appliance) {
		a.subscribe(0, "homeassistant/status")
		announce(a)
		a.publish("fridge/temperature", "4.5", 0, true)
	}, func(o *mqtt3.ClientOptions) { o.SetCleanSession(true) })
	fridge.connect()
	ha.connect()
	ha.hears(heard{fridgeTopic, fridgeConfig, true})
	ha.hears(heard{"fridge/temperature", "4.5", true})
	fridge.hears(heard{"homeassistant/status", "online", false})
	announce(fridge)
	ha.hears(heard{fridgeTopic, fridgeConfig, false}) // to an old subscription it is not marked as retained
	h.again(t, func(t *testing.T) {
		ha.comesBack()
		fridge.comesBack()
		announce(fridge)
		ha.hears(heard{fridgeTopic, fridgeConfig, false})
		fridge.off()
		ha.forget()
		if got := h.visits("homeassistant", ha.secret, []string{fridgeTopic, "fridge/temperature"}, "homeassistant/#", "fridge/#"); got[fridgeTopic] != fridgeConfig || got["fridge/temperature"] != "4.5" || got["homeassistant/status"] != "" {
			t.Errorf("what is retained: %v", got)
		}
		fridge.connect()
	})
	ha.dies() // it leaves so on purpose, for its will
	fridge.hears(heard{"homeassistant/status", "offline", false})
	fridge.publish(fridgeTopic, "", 0, true) // the entity is removed
	h.again(t, func(t *testing.T) {
		if got := h.visits("homeassistant", ha.secret, []string{"fridge/temperature"}, "homeassistant/#", "fridge/#"); got[fridgeTopic] != "" {
			t.Errorf("a removed announcement is back: %v", got)
		}
	})
	if got := h.events("io.hearth.event"); len(got) > 0 {
		t.Errorf("the room is told of it: %v", got)
	}
}

// zigbee2mqtt is Zigbee2MQTT with its default settings: what it has from MQTT.js,
// and what it publishes at its start.
func (h *house) zigbee2mqtt(secret, devices string) *appliance {
	return h.newAppliance("mqttjs_2f7b1c9d", "zigbee2mqtt", secret, func(a *appliance) {
		a.publish("zigbee2mqtt/bridge/state", `{"state":"online"}`, 1, true)
		a.subscribe(0, "zigbee2mqtt/#", "homeassistant/status")
		a.publish("zigbee2mqtt/bridge/info", `{"version":"2.5.1","coordinator":{"type":"zStack3x0"}}`, 0, true)
		a.publish("zigbee2mqtt/bridge/devices", devices, 0, true)
		a.publish("zigbee2mqtt/bridge/groups", "[]", 0, true)
		a.publish("homeassistant/light/0x00158d0001a2b3c4/light/config", `{"name":null,"command_topic":"zigbee2mqtt/desk lamp/set"}`, 1, true)
		a.publish("zigbee2mqtt/desk lamp/availability", `{"state":"online"}`, 1, true)
		a.publish("zigbee2mqtt/desk lamp", `{"brightness":120,"linkquality":80,"state":"OFF"}`, 0, false)
	}, func(o *mqtt3.ClientOptions) {
		o.SetCleanSession(true).SetWill("zigbee2mqtt/bridge/state", `{"state":"offline"}`, 1, true)
	})
}

func TestHabitsZigbee2MQTT(t *testing.T) {
	h := startHouse(t, "zigbee2mqtt", "homeassistant")
	secret := h.thing("add", "zigbee2mqtt", "--allow", "homeassistant/#").Password
	reader := h.thing("add", "homeassistant", "--allow", "read:zigbee2mqtt/#").Password
	// A house of a hundred and fifty devices, each with what it can do.
	var list []string
	for i := range 150 {
		list = append(list, fmt.Sprintf(`{"ieee_address":"0x%016x","friendly_name":"device %d","definition":{"exposes":[%s]}}`,
			i, i, strings.Repeat(`{"access":7,"name":"state","property":"state","type":"binary","value_on":"ON","value_off":"OFF"},`, 60)+"{}"))
	}
	devices := "[" + strings.Join(list, ",") + "]"
	if len(devices) < 800_000 {
		t.Fatalf("only %d bytes", len(devices))
	}
	z := h.zigbee2mqtt(secret, devices)
	z.connect()
	h.sees("io.hearth.event", "zigbee2mqtt", `"state":"online"`)
	h.state("io.hearth.shadow", "zigbee2mqtt/desk lamp", `"reported":{"brightness":120,"state":"OFF"}`)
	told := len(h.events("io.hearth.shadow"))
	lamp := func(t *testing.T) { // commanded from the room, asked, and wavering
		t.Helper()
		for i, state := range []string{"ON", "OFF"} {
			h.says(`zigbee2mqtt/desk lamp/set {"state":"` + state + `"}`)
			z.hears(heard{"zigbee2mqtt/desk lamp/set", `{"state":"` + state + `"}`, false})
			z.publish("zigbee2mqtt/desk lamp", fmt.Sprintf(`{"brightness":120,"linkquality":%d,"state":"%s"}`, 70+i, state), 0, false)
			h.state("io.hearth.shadow", "zigbee2mqtt/desk lamp", `"state":"`+state+`"`)
			told++
		}
		h.says(`zigbee2mqtt/desk lamp/get {"state":""}`)
		z.hears(heard{"zigbee2mqtt/desk lamp/get", `{"state":""}`, false})
		z.publish("zigbee2mqtt/desk lamp", `{"brightness":120,"linkquality":33,"state":"OFF"}`, 0, false)
	}
	lamp(t)
	h.again(t, func(t *testing.T) {
		z.comesBack()
		got := h.visits("homeassistant", reader, []string{"zigbee2mqtt/bridge/devices", "zigbee2mqtt/desk lamp/availability",
			"homeassistant/light/0x00158d0001a2b3c4/light/config"}, "zigbee2mqtt/#", "homeassistant/#")
		if got["zigbee2mqtt/bridge/devices"] != devices || got["zigbee2mqtt/bridge/state"] != `{"state":"online"}` ||
			got["zigbee2mqtt/desk lamp/availability"] != `{"state":"online"}` || !strings.Contains(got["homeassistant/light/0x00158d0001a2b3c4/light/config"], "desk lamp/set") {
			t.Errorf("%d bytes of devices, state %s, lamp %s", len(got["zigbee2mqtt/bridge/devices"]), got["zigbee2mqtt/bridge/state"], got["zigbee2mqtt/desk lamp/availability"])
		}
		lamp(t)
	})
	if n := len(h.events("io.hearth.event")); n != 1 {
		t.Errorf("that the lamp is there was told %d times", n)
	}
	z.publish("zigbee2mqtt/desk lamp/availability", `{"state":"offline"}`, 1, true)
	h.sees("io.hearth.event", "zigbee2mqtt", `"state":"offline"`)
	if n := len(h.events("io.hearth.shadow")); n != told {
		t.Errorf("%d state events of %d changes: the signal's strength is none", n, told)
	}
	z.dies()
	eventually(t, "its will is retained", func() bool {
		return h.visits("homeassistant", reader, []string{"zigbee2mqtt/bridge/state"}, "zigbee2mqtt/bridge/state")["zigbee2mqtt/bridge/state"] == `{"state":"offline"}`
	})
}

// tasmota is a switch with a sensor as it comes out of the box, but for its topic.
func (h *house) tasmota(secret string) *appliance {
	const n = "tasmota_1a2b3c"
	first := true
	a := h.newAppliance("DVES_1A2B3C", n, secret, func(a *appliance) {
		a.publish("tele/"+n+"/LWT", "Online", 0, true)
		a.publish("cmnd/"+n+"/POWER", "", 0, false) // which it may not, and is not minded
		a.subscribe(0, "cmnd/"+n+"/#", "cmnd/tasmotas/#", "cmnd/DVES_1A2B3C_fb/#")
		if first { // since its power came
			first = false
			a.publish("tele/"+n+"/INFO1", `{"Info1":{"Module":"Sonoff Basic","Version":"15.0.1(tasmota)","FallbackTopic":"cmnd/DVES_1A2B3C_fb/","GroupTopic":"cmnd/tasmotas/"}}`, 0, false)
			a.publish("stat/"+n+"/RESULT", `{"POWER":"OFF"}`, 0, false)
			a.publish("stat/"+n+"/POWER", "OFF", 0, false)
			a.publish("tasmota/discovery/AABBCC1A2B3C/config", `{"ip":"192.168.1.7","dn":"Tasmota","t":"`+n+`","ft":"%prefix%/%topic%/"}`, 0, true)
			a.publish("tasmota/discovery/AABBCC1A2B3C/sensors", `{"sn":{"AM2301":{"Temperature":21.5}},"ver":1}`, 0, true)
		}
		a.publish("tele/"+n+"/STATE", `{"Time":"2026-11-23T07:10:00","Uptime":"0T00:05:12","Heap":25,"POWER":"OFF","Wifi":{"RSSI":72}}`, 0, false)
		a.publish("tele/"+n+"/SENSOR", `{"Time":"2026-11-23T07:10:00","AM2301":{"Temperature":21.5,"Humidity":40.1},"TempUnit":"C"}`, 0, false)
	}, func(o *mqtt3.ClientOptions) {
		o.SetCleanSession(true).SetKeepAlive(30*time.Second).SetWill("tele/"+n+"/LWT", "Offline", 1, true)
	})
	return a
}

func TestHabitsTasmota(t *testing.T) {
	h := startHouse(t, "tasmota")
	const n = "tasmota_1a2b3c"
	secret := h.thing("add", n, "--allow", "tele/"+n+"/#", "--allow", "stat/"+n+"/#", "--allow", "read:cmnd/"+n+"/#", "--allow", "read:cmnd/tasmotas/#",
		"--allow", "write:tasmota/discovery/#", "--allow", "read:cmnd/DVES_1A2B3C_fb/#").Password
	reader := h.thing("add", "homeassistant", "--allow", "read:tasmota/#", "--allow", "read:tele/#", "--allow", "cmnd/#").Password
	s := h.tasmota(secret)
	s.connect()
	h.sees("m.room.message", n, `"body":"Online"`)
	h.state("io.hearth.shadow", "stat/"+n+"/POWER", `"reported":"OFF"`)
	h.digests(s, "tele/"+n+"/SENSOR", `{"Time":"2026-11-23T07:15:00","AM2301":{"Temperature":21.7,"Humidity":40.1},"TempUnit":"C"}`, `"AM2301.Temperature":{`)
	press := func(t *testing.T) {
		t.Helper()
		for _, state := range []string{"ON", "OFF"} {
			h.says("cmnd/" + n + "/POWER " + state)
			s.hears(heard{"cmnd/" + n + "/POWER", state, false})
			s.publish("stat/"+n+"/RESULT", `{"POWER":"`+state+`"}`, 0, false)
			s.publish("stat/"+n+"/POWER", state, 0, false)
			h.state("io.hearth.shadow", "stat/"+n+"/POWER", `"reported":"`+state+`"`)
		}
	}
	press(t)
	h.again(t, func(t *testing.T) {
		s.comesBack()
		got := h.visits("homeassistant", reader, []string{"tele/" + n + "/LWT", "tasmota/discovery/AABBCC1A2B3C/config", "tasmota/discovery/AABBCC1A2B3C/sensors"}, "tasmota/#", "tele/#")
		if got["tele/"+n+"/LWT"] != "Online" || !strings.Contains(got["tasmota/discovery/AABBCC1A2B3C/config"], n) || got["tasmota/discovery/AABBCC1A2B3C/sensors"] == "" {
			t.Errorf("what is retained: %v", got)
		}
		press(t)
	})
	ha := h.newAppliance("ha", "homeassistant", reader, func(*appliance) {}, nil)
	ha.connect()
	defer ha.off()
	ha.publish("cmnd/tasmotas/POWER", "TOGGLE", 0, false) // to the group
	s.hears(heard{"cmnd/tasmotas/POWER", "TOGGLE", false})
	var bodies []string
	for _, e := range h.events("m.room.message") {
		if strings.HasPrefix(string(e.Sender), "@"+n) {
			bodies = append(bodies, string(e.Content.VeryRaw))
		}
	}
	if len(bodies) != 1 {
		t.Errorf("that it is there was told %d times: %v", len(bodies), bodies)
	}
	s.dies()
	e := h.sees("m.room.message", n, `"body":"Offline"`)
	if !strings.Contains(string(e.Content.VeryRaw), `"m.mentions":{"room":true}`) {
		t.Errorf("nobody's phone rings: %s", e.Content.VeryRaw)
	}
	if got := h.visits("homeassistant", reader, []string{"tele/" + n + "/LWT"}, "tele/#"); got["tele/"+n+"/LWT"] != "Offline" {
		t.Errorf("%v", got)
	}
}

// esphome is a node with its default settings: it keeps its session, asks for what
// is its own with QoS 0 and for the dashboard with QoS 2.
func (h *house) esphome(secret string) *appliance {
	return h.newAppliance("kitchen-a1b2c3d4e5f6", "kitchen", secret, func(a *appliance) {
		a.subscribe(2, "esphome/discover", "esphome/ping/kitchen")
		a.subscribe(0, "kitchen/switch/fan/command")
		a.publish("esphome/discover/kitchen", `{"ip":"192.168.1.8","name":"kitchen","version":"2025.11.0","platform":"ESP32"}`, 2, true)
		a.publish("kitchen/status", "online", 0, true)
		a.publish("homeassistant/sensor/kitchen/temperature/config", `{"dev_cla":"temperature","stat_t":"kitchen/sensor/temperature/state","avty_t":"kitchen/status"}`, 0, true)
		a.publish("kitchen/sensor/temperature/state", "21.5", 0, true)
		a.publish("kitchen/switch/fan/state", "OFF", 0, true)
		a.publish("kitchen/debug", "[I][mqtt:300]: MQTT Connected!", 0, true)
	}, func(o *mqtt3.ClientOptions) {
		o.SetCleanSession(false).SetKeepAlive(15*time.Second).SetWill("kitchen/status", "offline", 0, true)
	})
}

func TestHabitsESPHome(t *testing.T) {
	h := startHouse(t, "esphome", "homeassistant")
	secret := h.thing("add", "kitchen", "--allow", "write:homeassistant/#", "--allow", "read:homeassistant/status", "--allow", "write:esphome/discover/#",
		"--allow", "read:esphome/discover", "--allow", "read:esphome/ping/kitchen").Password
	reader := h.thing("add", "homeassistant", "--allow", "read:kitchen/#", "--allow", "esphome/#").Password
	node, ha := h.esphome(secret), h.homeAssistant(reader)
	node.connect()
	ha.connect()
	h.sees("m.room.message", "kitchen", `"body":"online"`)
	h.state("io.hearth.shadow", "kitchen/switch/fan/state", `"reported":"OFF"`)
	h.digests(node, "kitchen/sensor/temperature/state", "21.5", `"kitchen/sensor/temperature/state":{"value":{`)
	ha.hears(heard{"kitchen/sensor/temperature/state", "21.5", true})
	press := func(t *testing.T) {
		t.Helper()
		for _, state := range []string{"ON", "OFF"} {
			h.says("kitchen/switch/fan/command " + state)
			node.hears(heard{"kitchen/switch/fan/command", state, false})
			node.publish("kitchen/switch/fan/state", state, 0, true)
			h.state("io.hearth.shadow", "kitchen/switch/fan/state", `"reported":"`+state+`"`)
		}
	}
	press(t)
	h.again(t, func(t *testing.T) {
		node.comesBack()
		ha.comesBack()
		got := h.visits("homeassistant", reader, []string{"kitchen/sensor/temperature/state", "kitchen/switch/fan/state", "kitchen/debug", "esphome/discover/kitchen"},
			"homeassistant/#", "kitchen/#", "esphome/#")
		if got["kitchen/status"] != "online" || got["kitchen/sensor/temperature/state"] != "21.5" || got["kitchen/switch/fan/state"] != "OFF" ||
			got["homeassistant/sensor/kitchen/temperature/config"] == "" || got["esphome/discover/kitchen"] == "" || got["kitchen/debug"] == "" {
			t.Errorf("what is retained: %v", got)
		}
		press(t)
		// What it asks for with QoS 2 waits while it is away, through the hub's end too.
		node.off()
		ha.publish("esphome/ping/kitchen", t.Name(), 2, false)
		h.kill()
		h.start()
		ha.comesBack()
		node.connect()
		node.hears(heard{"esphome/ping/kitchen", t.Name(), false})
	})
	if n := len(h.events("m.room.message")); n != 7 { // it is there, and six commands
		t.Errorf("that it is there was told several times: %d messages", n)
	}
	node.dies()
	ha.hears(heard{"kitchen/status", "offline", false})
	e := h.sees("m.room.message", "kitchen", `"body":"offline"`)
	if !strings.Contains(string(e.Content.VeryRaw), `"m.mentions":{"room":true}`) {
		t.Errorf("nobody's phone rings: %s", e.Content.VeryRaw)
	}
}
