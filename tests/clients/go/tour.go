// The tour of docs/tour.md with the client that openapi-generator makes of the contract.
//
// Run with the URL of the service, and with an administrator's ADMIN_EMAIL and ADMIN_PASSWORD, and the CLIENT_ADDRESS
// to come from, in the environment.
// It ends with an error at the first answer that is not as the contract promises.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"tour/concord"
)

const (
	email    = "go@concord.example"
	password = "seven green bicycles sing"
)

var client *concord.APIClient

func check(kept bool, promise string, values ...any) {
	if !kept {
		panic(fmt.Sprintln(promise, values))
	}
}

// must returns what an operation answered.
func must[T any](value T, _ *http.Response, err error) T {
	check(err == nil, "the operation succeeds", err)
	return value
}

// refused returns the problem that an operation answered, after checking its kind.
func refused[T any](code concord.ProblemSlug) func(T, *http.Response, error) concord.Problem {
	return func(_ T, _ *http.Response, err error) concord.Problem {
		var failure *concord.GenericOpenAPIError
		check(errors.As(err, &failure), "the operation fails", err)
		problem, typed := failure.Model().(concord.Problem)
		check(typed && problem.Code == code, "the problem is typed", problem.Code, code)
		return problem
	}
}

func signedIn(token string) context.Context {
	return context.WithValue(context.Background(), concord.ContextAccessToken, token)
}

func signIn(email, password string) *concord.AccessToken {
	request := client.AuthAPI.CreateToken(context.Background())
	token := must(request.Credentials(*concord.NewCredentials(email, password)).Execute())
	check(token.TokenType == concord.TOKENTYPE_BEARER, "the token is a bearer token")
	return token
}

func register() *concord.User {
	body := *concord.NewUserCreate("Ada Lovelace", email)
	body.SetPassword(password)
	request := client.UsersAPI.CreateUser(context.Background()).UserCreate(body)
	user := must(request.Execute())
	check(user.Role == concord.ROLE_USER && user.Active, "an account is active", user)
	refused[*concord.User](concord.PROBLEMSLUG_EMAIL_TAKEN)(request.Execute())
	return user
}

func refresh(token *concord.AccessToken) context.Context {
	body := *concord.NewRefreshRequest(token.RefreshToken)
	next := must(client.AuthAPI.RefreshToken(context.Background()).RefreshRequest(body).Execute())
	check(next.AccessToken != token.AccessToken, "a session gets a new token")
	return signedIn(next.AccessToken)
}

func changeName(me context.Context) {
	_, response, err := client.ProfileAPI.GetProfile(me).Execute()
	check(err == nil, "the profile is read", err)
	etag := response.Header.Get("ETag")
	body := *concord.NewProfileUpdate()
	body.SetName("Ada King")
	request := client.ProfileAPI.UpdateProfile(me).ProfileUpdate(body).IfMatch(etag)
	check(must(request.Execute()).Name == "Ada King", "the name is changed")
	refused[*concord.User](concord.PROBLEMSLUG_VERSION_MISMATCH)(request.Execute())
}

func pageToTheEnd(admin context.Context) {
	ids := map[int64]bool{}
	request := client.UsersAPI.ListUsers(admin).Active(true).Limit(50)
	for {
		page := must(request.Execute())
		for _, user := range page.Items {
			check(!ids[user.Id], "an account is on one page", user.Id)
			ids[user.Id] = true
		}
		if !page.NextCursor.IsSet() || page.NextCursor.Get() == nil {
			break
		}
		request = request.Cursor(page.GetNextCursor())
	}
	check(len(ids) > 100, "the list has several pages", len(ids))
}

func sellKites(admin context.Context) *concord.Product {
	price := *concord.NewPrice(1999, concord.CURRENCY_EUR)
	body := *concord.NewProductCreate("KITE-GREEN", "Green kite", price)
	request := client.ProductsAPI.CreateProduct(admin).ProductCreate(body)
	product := must(request.Execute())
	refused[*concord.Product](concord.PROBLEMSLUG_SKU_TAKEN)(request.Execute())
	delivery := *concord.NewStockAdjustmentCreate(5, "First delivery")
	adjust := client.StockAPI.CreateStockAdjustment(admin, product.Id).StockAdjustmentCreate(delivery)
	check(must(adjust.IdempotencyKey(rand.Text()).Execute()).OnHand == 5, "stock is counted")
	return product
}

func browse(product *concord.Product) {
	list := client.ProductsAPI.ListProducts(context.Background()).Q("gre kit").InStock(true)
	page := must(list.Currency(concord.CURRENCY_EUR).Sort(concord.PRODUCTSORT_PRICE_DESCENDING).Execute())
	check(len(page.Items) == 1 && page.Items[0].Id == product.Id, "the search finds the kite", page)
	get := client.ProductsAPI.GetProduct(context.Background(), product.Id)
	_, response, err := get.Execute()
	check(err == nil, "the product is read", err)
	_, again, _ := get.IfNoneMatch(response.Header.Get("ETag")).Execute()
	check(again.StatusCode == http.StatusNotModified, "nothing has changed", again.Status)
}

func buy(me context.Context, product *concord.Product) *concord.Order {
	body := *concord.NewOrderCreate([]concord.OrderLineCreate{*concord.NewOrderLineCreate(product.Id, 4)})
	body.SetMetadata(map[string]string{"season": "spring"})
	place := client.OrdersAPI.CreateOrder(me).OrderCreate(body)
	key := rand.Text()
	order := must(place.IdempotencyKey(key).Execute())
	check(order.Status == concord.ORDERSTATUS_PENDING && order.Total.Amount == 7996, "an order is placed", order)
	same, response, err := place.IdempotencyKey(key).Execute()
	check(err == nil && same.Id == order.Id, "a retry gets the same order", err)
	check(response.Header.Get("Idempotent-Replayed") == "true", "a retry is replayed")
	short := refused[*concord.Order](concord.PROBLEMSLUG_OUT_OF_STOCK)(place.IdempotencyKey(rand.Text()).Execute())
	check(len(short.Shortages) == 1 && short.Shortages[0].Available == 1, "one line is short", short)
	return order
}

func findByTime(me context.Context, order *concord.Order) {
	zone := time.FixedZone("", 2*60*60)
	from, to := order.CreatedAt.Add(-time.Minute).In(zone), order.CreatedAt.Add(time.Minute).UTC()
	list := client.OrdersAPI.ListOrders(me).Status([]concord.OrderStatus{concord.ORDERSTATUS_PENDING})
	found := must(list.CreatedFrom(from).CreatedTo(to).Sort(concord.ORDERSORT_TOTAL_DESCENDING).Execute())
	check(len(found.Items) == 1 && found.Items[0].Id == order.Id, "the order is found by time", found)
	earlier := must(list.CreatedTo(from).Execute())
	check(len(earlier.Items) == 0, "no order is earlier", earlier)
}

func fulfil(admin context.Context, order *concord.Order) {
	parcel := *concord.NewShipmentCreate("Royal Mail", "RM1")
	ship := client.OrdersAPI.ShipOrder(admin, order.Id).ShipmentCreate(parcel)
	early := refused[*concord.Order](concord.PROBLEMSLUG_ILLEGAL_TRANSITION)(ship.IdempotencyKey(rand.Text()).Execute())
	check(slices.Equal(early.AllowedActions, order.AllowedActions), "the problem lists what is allowed", early)
	payment := *concord.NewPaymentCreate(order.Total, "card", "ch_3P9uQ2")
	pay := client.OrdersAPI.PayOrder(admin, order.Id).PaymentCreate(payment)
	check(must(pay.IdempotencyKey(rand.Text()).Execute()).Status == concord.ORDERSTATUS_PAID, "the order is paid")
	check(must(ship.IdempotencyKey(rand.Text()).Execute()).Status == concord.ORDERSTATUS_SHIPPED, "the order is shipped")
	deliver := client.OrdersAPI.DeliverOrder(admin, order.Id)
	check(must(deliver.IdempotencyKey(rand.Text()).Execute()).Status == concord.ORDERSTATUS_DELIVERED, "the order is delivered")
}

func seeProblems(me context.Context) {
	body := *concord.NewUserCreate("", "nobody")
	body.SetPassword("short")
	create := client.UsersAPI.CreateUser(context.Background()).UserCreate(body)
	invalid := refused[*concord.User](concord.PROBLEMSLUG_INVALID_BODY)(create.Execute())
	check(invalid.Status == http.StatusUnprocessableEntity, "an invalid body is 422", invalid)
	for _, pointer := range []string{"/name", "/email", "/password"} {
		violates := func(each concord.Violation) bool { return each.GetPointer() == pointer }
		check(slices.ContainsFunc(invalid.Errors, violates), "each violation is listed", pointer)
	}
	refused[*concord.UserPage](concord.PROBLEMSLUG_NOT_PERMITTED)(client.UsersAPI.ListUsers(me).Execute())
	divide := client.DivideAPI.Divide(context.Background()).A(10).B(0)
	refused[*concord.Quotient](concord.PROBLEMSLUG_IMPOSSIBLE_DIVISION)(divide.Execute())
}

func showFace(me context.Context) {
	text := "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
	picture, err := base64.StdEncoding.DecodeString(text)
	check(err == nil, "the picture can be decoded", err)
	file, err := os.CreateTemp("", "*.png")
	check(err == nil, "a file can be made", err)
	defer os.Remove(file.Name())
	_, err = file.Write(picture)
	check(err == nil, "the file can be written", err)
	_, err = file.Seek(0, 0)
	check(err == nil, "the file can be read", err)
	user := must(client.ProfileAPI.SetAvatar(me).Image(file).Execute())
	avatar := user.Avatar.Get()
	check(avatar != nil, "the account has an avatar", user)
	response, err := http.Get(os.Args[1] + avatar.Small.Url)
	check(err == nil && response.Header.Get("Content-Type") == "image/webp", "the file is WebP", err)
	check(response.Body.Close() == nil, "the file is read")
}

func read() {
	anyone := context.Background()
	check(strings.Contains(must(client.DocumentsAPI.GetDocs(anyone).Execute()), "<html"), "the page is HTML")
	check(strings.HasPrefix(must(client.DocumentsAPI.GetOpenapiYaml(anyone).Execute()), "openapi:"), "the contract is YAML")
	check(strings.Contains(must(client.DocumentsAPI.GetDocsAsset(anyone, "docs.css").Execute()), "{"), "the style is CSS")
}

// tireOut signs in with a wrong password until the limit stops it.
func tireOut() {
	body := *concord.NewCredentials(email, "no green bicycle sings")
	for range 20 {
		_, response, err := client.AuthAPI.CreateToken(context.Background()).Credentials(body).Execute()
		if response.StatusCode == http.StatusTooManyRequests {
			refused[*concord.AccessToken](concord.PROBLEMSLUG_RATE_LIMITED)(nil, response, err)
			seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
			check(seconds > 0, "the limit says when to retry")
			return
		}
	}
	check(false, "sign-ins are limited")
}

func main() {
	configuration := concord.NewConfiguration()
	check(strings.HasPrefix(configuration.Servers[0].URL, "http"), "the client knows the host")
	configuration.Servers[0].URL = os.Args[1]
	configuration.AddDefaultHeader("X-Forwarded-For", os.Getenv("CLIENT_ADDRESS"))
	client = concord.NewAPIClient(configuration)
	user := register()
	me := refresh(signIn(email, password))
	changeName(me)
	showFace(me)
	admin := signedIn(signIn(os.Getenv("ADMIN_EMAIL"), os.Getenv("ADMIN_PASSWORD")).AccessToken)
	pageToTheEnd(admin)
	seeProblems(me)
	kite := sellKites(admin)
	browse(kite)
	order := buy(me, kite)
	findByTime(me, order)
	fulfil(admin, order)
	read()
	response, err := client.UsersAPI.DeleteUser(me, user.Id).Execute()
	check(err == nil && response.StatusCode == http.StatusNoContent, "the account is erased", err)
	tireOut()
	fmt.Println("The tour is done.")
}
